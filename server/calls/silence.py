"""How long a client can have been silent, from counts of its packets. Pure.

Packets are counted, not dated: a look finds that some came since the look before. The silence is
therefore reckoned from that look before, the earliest moment at which the last packet can have
come, so that a limit on it is never exceeded.
"""

from __future__ import annotations

LOOK_INTERVAL_S = 0.25
LOOK_LATE_S = 0.25  # by which a busy loop may delay a look
ENDING_S = 0.5  # kept of the limit for a busy loop, and for what a call holds to be given back


def heard_within_s(limit_s: float) -> float:
    """A client that is heard again within this time after its last packet is never ended."""
    return max(limit_s - ENDING_S - LOOK_INTERVAL_S - LOOK_LATE_S, 0.0)


class Silence:
    """The silence of one client."""

    def __init__(self, now: float) -> None:
        """
        Args:
            now: when the client was heard for certain, in seconds of a monotonic clock.
        """
        self._packets = 0
        self._looked = now
        self._since = now

    def look(self, packets: int, now: float) -> None:
        """Notes how many packets have come so far."""
        if packets != self._packets:
            self._packets, self._since = packets, self._looked
        self._looked = now

    @property
    def longest_s(self) -> float:
        """The longest that the client can have been silent at the last look."""
        return self._looked - self._since

    def left_s(self, limit_s: float) -> float:
        """Seconds from the last look until the call has to end; 0 when it has to end now.

        Args:
            limit_s: within which everything of a client that vanished is to be free.
        """
        return max(limit_s - ENDING_S - self.longest_s, 0.0)
