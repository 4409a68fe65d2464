"""Lost video packets of aiortc's receivers, asked for until they come (RFC 4585, generic NACK).

aiortc asks once, when it sees the hole. Where the request or the retransmission is lost too, the
picture stays broken. Here a packet is asked for again when the retransmission is overdue, as often
as it can still be of use. `server.webrtc.aiortc_overrides` puts this in place of aiortc's
`NackGenerator`.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import Any

from aiortc.rtp import RtpPacket

from server.webrtc.aiortc_jitter import ahead

SHORTEST_REPEAT_S = 0.02
REPEAT_ROUND_TRIPS = 1.25
FIRST_ROUND_TRIP_S = 0.025  # until one was measured
SMOOTHING = 0.25  # weight of a new measurement of the round trip
MOST_REQUESTS = 10  # for one packet
MOST_MISSING = 256


@dataclass(slots=True)
class Missing:
    """A packet that has not come.

    Attributes:
        requests: how often it was asked for.
        asked_at: when last.
    """

    requests: int = 0
    asked_at: float = 0.0


class Retransmissions:
    """Which packets of one stream are missing, and when to ask for which. Pure but for `send`.

    Attributes:
        round_trip_s: from asking for a packet until it comes, smoothed.
    """

    def __init__(self) -> None:
        self.round_trip_s = FIRST_ROUND_TRIP_S
        self._newest: int | None = None
        self._missing: dict[int, Missing] = {}
        self._media_ssrc = 0
        self._timer: asyncio.TimerHandle | None = None
        self._sending: asyncio.Task[None] | None = None

    @property
    def missing(self) -> set[int]:
        """Sequence numbers that have not come."""
        return set(self._missing)

    def add(self, packet: RtpPacket) -> bool:
        """Notes a packet; False, for aiortc is not to ask by itself."""
        sequence = packet.sequence_number
        self._media_ssrc = packet.ssrc
        if self._newest is None or abs(ahead(sequence, self._newest)) > 1000:
            self._newest = sequence
            self._missing.clear()
        for step in range(1, ahead(sequence, self._newest)):
            self._missing[self._newest + step & 0xFFFF] = Missing()
        if ahead(sequence, self._newest) > 0:
            self._newest = sequence
        self._missing.pop(sequence, None)
        while len(self._missing) > MOST_MISSING:
            del self._missing[next(iter(self._missing))]
        return False

    def note_retransmission(self, sequence: int, now: float) -> None:
        """Measures the round trip by a packet that comes again, before it is added.

        Only where it was asked for once: else nobody knows which request was answered.
        """
        entry = self._missing.get(sequence)
        if entry is not None and entry.requests == 1:
            self.round_trip_s += SMOOTHING * (now - entry.asked_at - self.round_trip_s)

    def forget_before(self, sequence: int) -> None:
        """Asks no more for packets that are of no use now."""
        for old in [old for old in self._missing if ahead(old, sequence) < 0]:
            del self._missing[old]

    def due(self, now: float) -> list[int]:
        """The packets to ask for at `now`; they count as asked for."""
        due = []
        for sequence, entry in self._missing.items():
            if entry.requests == 0 or (
                entry.requests < MOST_REQUESTS and now - entry.asked_at >= self.repeat_s
            ):
                entry.requests += 1
                entry.asked_at = now
                due.append(sequence)
        return sorted(due)  # aiortc packs them by their differences, which may not be negative

    @property
    def repeat_s(self) -> float:
        """After this time a packet is asked for again."""
        return max(REPEAT_ROUND_TRIPS * self.round_trip_s, SHORTEST_REPEAT_S)

    async def send(self, receiver: Any) -> None:
        """Asks for what is due, and again later while anything is missing.

        Args:
            receiver: aiortc's, whose generator this is.
        """
        due = self.due(time.monotonic())
        if due:
            await receiver._send_rtcp_nack(self._media_ssrc, due)
        open_ = [entry for entry in self._missing.values() if entry.requests < MOST_REQUESTS]
        if open_ and self._timer is None:
            wait = min(entry.asked_at for entry in open_) + self.repeat_s - time.monotonic()
            self._timer = asyncio.get_running_loop().call_later(
                max(wait, 0.001), self._send_later, receiver
            )

    def _send_later(self, receiver: Any) -> None:
        self._timer = None
        if receiver._RTCRtpReceiver__decoder_thread:  # it has not been stopped
            self._sending = asyncio.ensure_future(self.send(receiver))
