"""What a media port takes: datagrams of its call's peer, at a rate that a call can have.

ICE says whose a datagram is: the peer's are those from an address that it announced, or from one
that has shown by a signed check that it knows the call's password (RFC 8445, 7.3). Strangers may
send such checks, few of them, and nothing else. Everything here is decided before a byte is parsed:
aioice queues whatever comes, from whomever, without bound. Pure, the clock is given.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final, Literal, NamedTuple

from server.message_rate import RateLimit

Kind = Literal["check", "dtls", "rtcp", "rtp"]


class Rate(NamedTuple):
    """Datagrams and bytes: at once, and a second."""

    burst: int
    per_s: int
    burst_bytes: int
    bytes_per_s: int


# Each has room for what two seconds of lost network hold back.
PEER: Final[dict[Kind, Rate]] = {
    # Pairs of 20 candidates at each end, tried again and again until one answers.
    "check": Rate(300, 100, 256 << 10, 64 << 10),
    # Control messages, and a SACK for every second of ours. One of 1200 bytes may hold 60 chunks.
    "dtls": Rate(300, 100, 1 << 20, 256 << 10),
    # Reports, and requests for what was lost: up to 6000 packets in one of 1500 bytes.
    "rtcp": Rate(400, 200, 128 << 10, 48 << 10),
    # Sound and a camera of 720p are 300 and 0.4 MB a second.
    "rtp": Rate(4_000, 1_500, 8 << 20, 3 << 20),
}
BURST_STRANGERS = 200
STRANGERS_PER_S = 50.0
MAX_WAITING = 512  # datagrams of one port that nobody has taken yet
MAX_SOURCES = 16  # SSRCs: sound, picture, what is sent again, reports; each costs memory for good
# An excess this large and this steady is no network's doing: the call is ended.
PATIENCE_DATAGRAMS = 10_000
PATIENCE_PER_S = 200.0


class DatagramGuard:
    """Judges the datagrams of one call, whichever of its ports they come to.

    Attributes:
        strange: datagrams of others than the peer that were dropped.
        excess: the peer's that were dropped.
        flooded: so much of the peer's was dropped, for so long, that the call is to end.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._strangers = RateLimit(BURST_STRANGERS, STRANGERS_PER_S, clock)
        self._datagrams = {k: RateLimit(rate.burst, rate.per_s, clock) for k, rate in PEER.items()}
        self._bytes = {
            k: RateLimit(rate.burst_bytes, rate.bytes_per_s, clock) for k, rate in PEER.items()
        }
        self._patience = RateLimit(PATIENCE_DATAGRAMS, PATIENCE_PER_S, clock)
        self._sources: set[bytes] = set()
        self.strange = 0
        self.excess = 0
        self.flooded = False

    def admits(self, data: bytes, *, of_peer: bool, waiting: int = 0) -> bool:
        """Counts a datagram; whether it is to be looked at.

        Args:
            of_peer: it came from an address of the call's peer.
            waiting: datagrams of its port that were admitted and not taken yet.
        """
        kind = kind_of(data)
        if not of_peer:
            if kind == "check" and self._strangers.allows():
                return True
            self.strange += 1
            return False
        if (
            kind is not None
            and self._datagrams[kind].allows()
            and self._bytes[kind].allows(len(data))
            and waiting < MAX_WAITING
            and self._is_known_source(kind, data)
        ):
            return True
        self.excess += 1
        self.flooded = self.flooded or not self._patience.allows()
        return False

    def _is_known_source(self, kind: Kind, data: bytes) -> bool:
        if kind not in ("rtp", "rtcp"):
            return True
        source = data[8:12] if kind == "rtp" else data[4:8]
        if source in self._sources:
            return True
        if len(self._sources) == MAX_SOURCES:
            return False
        self._sources.add(source)
        return True


def kind_of(data: bytes) -> Kind | None:
    """What a datagram is by its first bytes (RFC 7983, section 7; RFC 5761, section 4)."""
    if len(data) < 12:
        return None
    first = data[0]
    if first < 4:
        return "check"
    if 20 <= first < 64:
        return "dtls"
    if 128 <= first < 192:
        return "rtcp" if 192 <= data[1] < 224 else "rtp"
    return None
