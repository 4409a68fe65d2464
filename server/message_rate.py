"""How many control messages a client may send. Pure, the clock is given."""

from __future__ import annotations

import time
from collections.abc import Callable

BURST_MESSAGES = 64
MESSAGES_PER_S = 32.0  # a page sends one or two


class MessageRate:
    """A bucket of BURST_MESSAGES that fills at MESSAGES_PER_S."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._left = float(BURST_MESSAGES)
        self._at = clock()

    def allows(self) -> bool:
        """Counts a message; whether it was not one too many."""
        now = self._clock()
        self._left = min(self._left + (now - self._at) * MESSAGES_PER_S, BURST_MESSAGES)
        self._at = now
        if self._left < 1.0:
            return False
        self._left -= 1.0
        return True
