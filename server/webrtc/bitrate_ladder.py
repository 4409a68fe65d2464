"""The bitrate of a sent picture: what it deserves, and less while the path is overused. Pure.

A receiver estimates what the path can carry (REMB, draft-alvestrand-rmcat-remb) from what arrives:
a still face that needs 100 kbit/s is estimated at that, some seconds into a call, on a path that
carries any amount. So the estimate is no ceiling by itself. That it falls says that packets queue
up on the path (draft-ietf-rmcat-gcc, section 5.5: it only ever falls on overuse), and that the
receiver gets at least as much as is sent says that they do not.
"""

from __future__ import annotations

import math
from collections import deque

REFERENCE_PIXELS = 256 * 256
REFERENCE_BITRATE = 400_000  # of those pixels at 25 fps: a talking mouth never below 40 dB
GROWTH = 0.65  # larger pictures of the same face have smoother pixels
MIN_BITRATE = 150_000
MAX_BITRATE = 3_000_000
STEP = 1.25  # ratio of neighbouring bitrates
LARGEST_FALL = 3  # steps at once, a half: an estimate made of silence can be far too low
HYSTERESIS_S = 2.0
FALLEN = 0.97  # of the estimate before
SENT_WINDOW_S = 1.0


def deserved_bitrate(pixels: int) -> int:
    """Bits a second at which a face of that size looks clean."""
    wanted = REFERENCE_BITRATE * (pixels / REFERENCE_PIXELS) ** GROWTH
    return int(min(max(wanted, MIN_BITRATE), MAX_BITRATE))


class BitrateLadder:
    """The bitrate that an encoder is open with: steps of 25 %, raised at most every 2 s.

    Attributes:
        current: bits a second, of the last choice.
        openings: how often the encoder was opened, each time with a key frame.
    """

    def __init__(self) -> None:
        self.current = 0
        self.openings = 0
        self._below = 0  # steps below what the picture deserves
        self._estimate: int | None = None
        self._overused = False
        self._changed_at = -math.inf
        self._sent: deque[tuple[float, int]] = deque()

    def hear_estimate(self, bitrate: int) -> None:
        """Notes what the receiver says the path can carry."""
        if self._estimate is not None and bitrate < FALLEN * self._estimate:
            self._overused = True
        self._estimate = bitrate

    def note_sent(self, size_bytes: int, now: float) -> None:
        """Notes an encoded picture, at a time in seconds."""
        self._sent.append((now, 8 * size_bytes))
        while self._sent[0][0] <= now - SENT_WINDOW_S:
            self._sent.popleft()

    def choose(self, pixels: int, now: float) -> int:
        """The bitrate to encode with now: a multiple of 1000, as encoders keep it."""
        deserved = deserved_bitrate(pixels)
        if self._overused:
            self._overused = False
            self._fall(deserved, now)
        elif self._below and now - self._changed_at >= HYSTERESIS_S and self._gets_through():
            self._below -= 1
            self._changed_at = now
        rate = max(deserved / STEP**self._below, MIN_BITRATE)
        self.current = int(rate) // 1000 * 1000
        return self.current

    def _fall(self, deserved: int, now: float) -> None:
        assert self._estimate is not None
        wanted = max(self._estimate, MIN_BITRATE)
        below = math.ceil(math.log(max(deserved / wanted, 1.0), STEP))
        below = min(below, self._below + LARGEST_FALL)
        if below > self._below:
            self._below, self._changed_at = below, now

    def _gets_through(self) -> bool:
        """Whether the receiver gets what is sent."""
        return self._estimate is None or self._estimate >= sum(bits for _, bits in self._sent)
