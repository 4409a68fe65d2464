"""How late the event loop is: what every call of this process waits for."""

from __future__ import annotations

import asyncio
import statistics
from collections import deque
from collections.abc import Callable

INTERVAL_S = 0.25
JUDGED = 20  # timers, 5 s: a call that begins holds the loop up for a moment, too
HELD_UP_S = 0.04  # two packets of sound


async def watch_loop(observe_s: Callable[[float], None]) -> None:
    """Tells four times a second by how much a timer was late, until it is cancelled."""
    loop = asyncio.get_running_loop()
    while True:
        due = loop.time() + INTERVAL_S
        await asyncio.sleep(INTERVAL_S)
        observe_s(max(loop.time() - due, 0.0))


class LagJudge:
    """Whether a loop is held up for good: it gets too little processor time, or has too much to do.

    A process that others leave no time for uses little itself: its own share tells nothing. Pure.
    """

    def __init__(self) -> None:
        self._lags_s: deque[float] = deque(maxlen=JUDGED)

    def note(self, lag_s: float) -> bool:
        """Takes a timer's lateness; true where half of the last ones were late by two packets."""
        self._lags_s.append(lag_s)
        return len(self._lags_s) == JUDGED and statistics.median(self._lags_s) > HELD_UP_S
