"""How long the next batch of hops will take, by how long the last ones took. Pure.

On a machine that has time this is a few tens of milliseconds and changes nothing. Where others take
the processor a hop can begin in time and end too late to be shown: then it is better dropped before
it begins, and its source frames shown.
"""

from __future__ import annotations

NEWEST = 0.5  # weight of the last batch
FORGOTTEN = 0.9  # of it is still expected after a hop was dropped: the machine may be free again


class BatchTime:
    """What is expected of the next batch.

    Attributes:
        expected_s: seconds from its begin to its end.
    """

    def __init__(self) -> None:
        self.expected_s = 0.0

    def note_batch(self, seconds: float) -> None:
        """Hears how long a batch took."""
        self.expected_s += NEWEST * (seconds - self.expected_s)

    def note_drop(self) -> None:
        """Hears that none was run, dropped or at rest: nobody knows what it would have taken."""
        self.expected_s *= FORGOTTEN
