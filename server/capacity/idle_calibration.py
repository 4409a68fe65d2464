"""Measures again what calls cost, whenever none has run for a while.

A machine that is busy when a server starts is measured as busy, and nothing else would ever
correct that upwards. The best of the last measurements counts: one that fell into a busy moment
takes no place away, several in a row do. Pure: the clock is given.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence

from server.capacity.machine import HopCost

Clock = Callable[[], float]
HopCosts = Mapping[int, Sequence[HopCost]]

IDLE_S = 5.0  # without a call
FIRST_PAUSE_S = 30.0  # after a start, whose own work was in the way; doubled each time
LONGEST_PAUSE_S = 600.0
REMEMBERED = 3


class IdleTimer:
    """When to measure again: not while calls run, and less and less often."""

    def __init__(self, clock: Clock = time.monotonic) -> None:
        self._clock = clock
        self._idle_since = clock()
        self.restart()

    def restart(self, pause_s: float = FIRST_PAUSE_S) -> None:
        """Begins anew: what was measured is of no use any more, or was just measured."""
        self._pause_s = FIRST_PAUSE_S
        self._next_at = self._clock() + pause_s

    def due(self, calls: int) -> bool:
        """Whether to measure now; then not again for a pause.

        Args:
            calls: that there are now.
        """
        now = self._clock()
        if calls:
            self._idle_since = now
        if now - self._idle_since < IDLE_S or now < self._next_at:
            return False
        self._pause_s = min(2 * self._pause_s, LONGEST_PAUSE_S)
        self._next_at = now + self._pause_s
        return True


class IdleCalibration:
    """What hops cost, measured again one length at a time, so that a call never waits for long.

    Args:
        measure: gives the costs of hops of one length.
    """

    def __init__(
        self, measure: Callable[[int], Sequence[HopCost]], clock: Clock = time.monotonic
    ) -> None:
        self._measure = measure
        self._timer = IdleTimer(clock)
        self._known: deque[HopCosts] = deque(maxlen=REMEMBERED)
        self._waiting: list[int] = []
        self._found: dict[int, Sequence[HopCost]] = {}

    def note(self, costs: HopCosts) -> None:
        """Remembers a measurement that was made elsewhere."""
        self._known.append(costs)

    def restart(self) -> None:
        """Another backend runs, of which nothing is known: it is measured as soon as may be."""
        self._known.clear()
        self._waiting.clear()
        self._timer.restart(pause_s=0.0)

    def step(self, calls: int, lengths: Sequence[int]) -> HopCosts | None:
        """Goes on measuring where it is time to; the best costs, when a measurement is complete.

        Args:
            calls: that there are now: none is measured beside them.
            lengths: of hops, those to measure.
        """
        if self._timer.due(calls):
            self._waiting, self._found = list(lengths), {}
        if calls:
            self._waiting.clear()
        if not self._waiting:
            return None
        length = self._waiting.pop()
        self._found[length] = self._measure(length)
        if self._waiting:
            return None
        self._known.append(self._found)
        return min(self._known, key=_wall_ms)


def _wall_ms(costs: HopCosts) -> float:
    """Of one hop of the longest kind."""
    return costs[max(costs)][0].wall_ms
