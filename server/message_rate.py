"""How much a client may send. Pure, the clock is given.

What is above a limit is an error that ends the call: a client that sends so much is broken or means
harm, and to drop a part of it would hide that.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable

BURST_MESSAGES = 64
MESSAGES_PER_S = 32.0  # a page sends one or two
BURST_PACKETS = 500
PACKETS_PER_S = 250.0  # sound in pieces of 10 ms and a camera are 125
SHORTEST_PACKET_MS = 5  # of speech that is sent ahead as far as its credit allows
BURST_BYTES = 32 << 20
BYTES_PER_S = float(16 << 20)  # 25 pictures of 640 KiB


class RateLimit:
    """A bucket of `burst` that fills at `per_s`."""

    def __init__(
        self, burst: float, per_s: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._burst = burst
        self._per_s = per_s
        self._clock = clock
        self._left = burst
        self._at = clock()

    @property
    def full_in_ms(self) -> int:
        """Until a whole burst may come again."""
        return math.ceil((self._burst - self._left) / self._per_s * 1000)

    def allows(self, amount: float = 1.0) -> bool:
        """Counts so much; whether it was not too much."""
        now = self._clock()
        self._left = min(self._left + (now - self._at) * self._per_s, self._burst)
        self._at = now
        if self._left < amount:
            return False
        self._left -= amount
        return True


class MessageRate(RateLimit):
    """Of control messages."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(BURST_MESSAGES, MESSAGES_PER_S, clock)


class SocketRate:
    """Of everything that comes over one WebSocket.

    Args:
        window_ms: of speech that may be sent ahead at once.
    """

    def __init__(self, window_ms: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._messages = MessageRate(clock)
        burst = BURST_PACKETS + window_ms / SHORTEST_PACKET_MS
        self._packets = RateLimit(burst, PACKETS_PER_S, clock)
        self._bytes = RateLimit(BURST_BYTES, BYTES_PER_S, clock)

    @property
    def full_in_ms(self) -> int:
        """Until whole bursts of everything may come again."""
        limits = (self._messages, self._packets, self._bytes)
        return max(limit.full_in_ms for limit in limits)

    def excess(self, text: str | None, data: bytes | None) -> str | None:
        """Counts what came; None, or what the client should have done."""
        if text is not None:
            if not self._messages.allows():
                return (
                    f"expected at most {BURST_MESSAGES} control messages at once "
                    f"and {MESSAGES_PER_S:.0f} a second"
                )
        elif not self._packets.allows():
            return f"expected at most {PACKETS_PER_S:.0f} binary messages a second"
        if not self._bytes.allows(len(text or data or "")):
            return f"expected at most {BYTES_PER_S / (1 << 20):.0f} MiB a second"
        return None
