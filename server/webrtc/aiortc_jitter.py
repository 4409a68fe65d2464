"""Jitter buffers for aiortc's receivers: sound in order at once, pictures whole and undamaged.

`server.webrtc.aiortc_overrides` puts them in place of `aiortc.jitterbuffer.JitterBuffer`. Both are
pure but for the monotonic clock.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator

from aiortc.jitterbuffer import JitterFrame
from aiortc.rtp import RtpPacket

from server.media.av_frames import VIDEO_CLOCK_HZ

HOLE_TIMEOUT_S = 0.25  # a hole in the video this old is given up,
HOLE_ROUND_TRIPS = 6  # or after so many, in which a packet is asked for four times,
LONGEST_HOLE_S = 0.5  # however long they are
KEYFRAME_INTERVAL_S = 0.3  # at most one request for a key frame in this time
AUDIO_HOLD_PACKETS = 2  # packets that may wait for a missing one
REORDER_PACKETS = 512  # video packets that may wait behind a hole
H264_PARAMETERS = 7  # type of a NAL unit: sequence parameter set
VP8_START_CODE = b"\x9d\x01\x2a"  # RFC 6386, section 9.1


def ahead(sequence: int, reference: int) -> int:
    """How many packets `sequence` lies ahead of `reference`, negative when behind."""
    return (sequence - reference + 0x8000 & 0xFFFF) - 0x8000


def is_keyframe(codec: str, data: bytes) -> bool:
    """Whether an encoded picture can be decoded by itself; the first packet of one will do.

    Of H.264 it is told by the parameter sets that every encoder in use here sends with it: a
    slice of its own may be the second one.
    """
    if codec == "VP8":
        return data[3:6] == VP8_START_CODE and data[0] & 1 == 0
    return any(data[at + 3] & 0x1F == H264_PARAMETERS for at in _start_codes(data))


def _start_codes(data: bytes) -> Iterator[int]:
    at = data.find(b"\0\0\1")
    while 0 <= at < len(data) - 3:
        yield at
        at = data.find(b"\0\0\1", at + 3)


def _payload(packet: RtpPacket) -> bytes:
    """What the receiver left on the packet after it took the codec's own header off."""
    data: bytes = packet._data  # type: ignore[attr-defined]
    return data


class SoundJitterBuffer:
    """Releases sound in order at once, and skips a packet that two later ones overtook."""

    def __init__(self) -> None:
        self._next: int | None = None
        self._held: dict[int, RtpPacket] = {}

    def add(self, packet: RtpPacket) -> tuple[bool, JitterFrame | None]:
        """(False, the payload to decode next, if any)."""
        if self._next is None or abs(ahead(packet.sequence_number, self._next)) > 1000:
            self._next = packet.sequence_number
            self._held.clear()
        if ahead(packet.sequence_number, self._next) >= 0:
            self._held[packet.sequence_number] = packet
        if self._next not in self._held and len(self._held) > AUDIO_HOLD_PACKETS:
            reference = self._next
            self._next = min(self._held, key=lambda sequence: ahead(sequence, reference))
        return False, self.ready()

    def ready(self) -> JitterFrame | None:
        """The next payload that need not wait any longer."""
        if self._next is None or (packet := self._held.pop(self._next, None)) is None:
            return None
        self._next = self._next + 1 & 0xFFFF
        return JitterFrame(data=_payload(packet), timestamp=packet.timestamp)


class VideoJitterBuffer:
    """Releases a picture with its last packet (the marker bit) instead of with the next picture.

    A hole waits for its retransmission. When that does not come in time, the picture is lost and
    so is every one that builds on it: nothing is released until a whole key frame is there, which
    is asked for again and again.

    Attributes:
        codec: name of the stream's codec, which says what a key frame looks like.
        round_trip_s: until a retransmission that was asked for comes.
    """

    def __init__(self) -> None:
        self.codec = "VP8"
        self.round_trip_s = 0.0
        self._next: int | None = None
        self._held: dict[int, RtpPacket] = {}
        self._hole_since: float | None = None
        self._released: int | None = None  # timestamp of the last picture
        self._lost_until: int | None = None  # pictures build on one before this packet that is lost
        self._asked_at = -math.inf

    @property
    def wanted_from(self) -> int | None:
        """Sequence number of the first packet whose retransmission would still help."""
        return self._next if self._lost_until is None else self._lost_until

    def add(self, packet: RtpPacket) -> tuple[bool, JitterFrame | None]:
        """(whether to ask for a key frame, the picture to decode next, if any)."""
        now = time.monotonic()
        sequence = packet.sequence_number
        if self._next is None:
            self._next = sequence
        distance = ahead(sequence, self._next)
        if abs(distance) > 1000:  # the sender began anew
            self._held.clear()
            self._next = self._lost_until = sequence
        elif distance < 0:
            return self._ask(now), None
        self._held[sequence] = packet
        frame = self.ready()
        if frame is not None or not self._has_hole():
            self._hole_since = None
        else:
            self._hole_since = self._hole_since or now
            if self._lost_until is None and self._is_over(packet, now - self._hole_since):
                self._lost_until = sequence
                frame = self.ready()
        if len(self._held) >= REORDER_PACKETS:
            self._lost_until = sequence
            self._drop_before(sorted(self._held, key=self._distance)[REORDER_PACKETS // 2])
        return self._ask(now), frame

    def ready(self) -> JitterFrame | None:
        """The next whole picture, if there is one."""
        if self._next is None:
            return None
        if self._lost_until is not None and not self._skip_to_key_frame():
            return None
        end = self._end_of_picture(self._next)
        if end is None:
            return None
        self._released = self._held[self._next].timestamp
        parts = []
        while self._next != end:
            parts.append(_payload(self._held.pop(self._next)))
            self._next = self._next + 1 & 0xFFFF
        return JitterFrame(data=b"".join(parts), timestamp=self._released)

    def _distance(self, sequence: int) -> int:
        return ahead(sequence, self._next or 0)

    def _has_hole(self) -> bool:
        """Whether packets are held that lie behind a missing one."""
        sequence = self._next or 0
        for _ in range(len(self._held)):
            if sequence not in self._held:
                return True
            sequence = sequence + 1 & 0xFFFF
        return False

    def _is_over(self, packet: RtpPacket, waited_s: float) -> bool:
        """Whether a hole before `packet` is given up now."""
        timeout = min(max(HOLE_TIMEOUT_S, HOLE_ROUND_TRIPS * self.round_trip_s), LONGEST_HOLE_S)
        missing = 0 if self._released is None else packet.timestamp - self._released
        missing = (missing + 2**31) % 2**32 - 2**31
        # More than that is missing after an outage: what it showed is over.
        return waited_s > timeout or missing > LONGEST_HOLE_S * VIDEO_CLOCK_HZ

    def _end_of_picture(self, first: int) -> int | None:
        """Sequence number after the picture that begins with `first`; None: not all is there."""
        sequence = first
        while (packet := self._held.get(sequence)) is not None:
            sequence = sequence + 1 & 0xFFFF
            following = self._held.get(sequence)
            if packet.marker or (following and following.timestamp != packet.timestamp):
                return sequence
        return None

    def _skip_to_key_frame(self) -> bool:
        """Drops what lies before the first whole key frame that is held; False: there is none."""
        for sequence in sorted(self._held, key=self._distance):
            begins = is_keyframe(self.codec, _payload(self._held[sequence]))
            if begins and self._end_of_picture(sequence) is not None:
                self._drop_before(sequence)
                self._lost_until = None
                return True
        return False

    def _drop_before(self, sequence: int) -> None:
        for old in [old for old in self._held if ahead(old, sequence) < 0]:
            del self._held[old]
        self._next = sequence

    def _ask(self, now: float) -> bool:
        if self._lost_until is None or now - self._asked_at < KEYFRAME_INTERVAL_S:
            return False
        self._asked_at = now
        return True
