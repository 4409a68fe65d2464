"""How long hops are now: short while few calls are there, longer when calls need the engine.

A hop of h frames waits for the last of them before it can begin, so that lips come h frames late;
each hop has its own cost, so that short ones cost more a frame. One length serves all calls. Pure:
the clock is given.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping

from engine.errors import ConfigError
from server.capacity.machine import FRAME_MS

Clock = Callable[[], float]

SHARE = 0.6  # of the engine's loop that hops of a length may be expected to take
BUSY_SHARE = 0.75  # of the loop that was really taken: more, and hops begin to wait for each other
BUSY_WITHIN_S = 3.0
SHORTEN_AFTER_S = 10.0  # with fewer calls: the next one may be on its way
HOLD_S = 60.0  # at a length that the machine asked for; doubled each time that it asks again
LONGEST_HOLD_S = 960.0


class HopLength:
    """The length of hops by what they cost and how many streams there are.

    Args:
        costs_ms: of one hop of one stream, by its length in frames.
    """

    def __init__(self, costs_ms: Mapping[int, float], clock: Clock = time.monotonic) -> None:
        if not costs_ms:
            raise ConfigError("expected the cost of one length of hops at least")
        self._costs_ms = dict(sorted(costs_ms.items()))
        self._clock = clock
        self._streams = 0
        self._frames = self._fitting()
        self._fits_since: float | None = None
        self._busy_s, self._busy_since = 0.0, clock()
        self._least = self._frames  # that the machine's other work allows
        self._hold_s = HOLD_S
        self._held_until = -math.inf

    @property
    def frames(self) -> int:
        """Frames of a hop now: longer at once, shorter when that has been enough for a while."""
        now = self._clock()
        wanted = self._fitting()
        if now < self._held_until:
            wanted = max(wanted, self._least)
        if wanted >= self._frames or self._streams == 0:
            self._frames, self._fits_since = wanted, None
        elif self._fits_since is None:
            self._fits_since = now
        elif now - self._fits_since >= SHORTEN_AFTER_S:
            self._frames, self._fits_since = wanted, None
            self._busy_s, self._busy_since = 0.0, now
        return self._frames

    def set_streams(self, count: int) -> None:
        """Says how many streams there are now."""
        self._streams = count
        self._busy_s, self._busy_since = 0.0, self._clock()

    def note_work(self, seconds: float) -> None:
        """Says that the loop worked so long; where it is busy, hops become longer for a while."""
        now = self._clock()
        self._busy_s += seconds
        if now - self._busy_since < BUSY_WITHIN_S:
            return
        share = self._busy_s / (now - self._busy_since)
        self._busy_s, self._busy_since = 0.0, now
        longer = [length for length in self._costs_ms if length > self._frames]
        if share <= BUSY_SHARE or not longer:
            return
        if now >= self._held_until:
            soon_again = now - self._held_until < self._hold_s
            self._hold_s = min(2 * self._hold_s, LONGEST_HOLD_S) if soon_again else HOLD_S
        self._least, self._held_until = longer[0], now + self._hold_s

    def _fitting(self) -> int:
        """The shortest length at which the streams leave the loop room, or the longest."""
        for length, cost_ms in self._costs_ms.items():
            if self._streams * cost_ms <= SHARE * length * FRAME_MS:
                return length
        return max(self._costs_ms)
