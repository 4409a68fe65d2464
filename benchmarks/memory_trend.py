"""Whether a figure that is read again and again grows: a robust slope with its confidence.

Readings of a process's memory jump with every call that begins or ends and drift with the
allocator, so neighbours are not independent. They are first put together in blocks, of each of
which the median counts; the slope is Theil's and Sen's, the median of the slopes between all pairs
of blocks, with the confidence interval of Sen (1968) from the normal approximation of Kendall's
statistic. A burst changes it as little as a handful of stray points do.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

CONFIDENCE = 0.95
LEAST_BLOCKS = 5


@dataclass(frozen=True, slots=True)
class Trend:
    """How fast a figure changes.

    Attributes:
        per_hour: the slope.
        low, high: its confidence interval.
        level: the median of the blocks that it was taken from.
        blocks: how many.
    """

    per_hour: float
    low: float
    high: float
    level: float
    blocks: int

    def grows(self, tolerance_per_hour: float) -> bool:
        """Whether it surely rises, by more than a tolerance."""
        return self.low > 0 and self.per_hour > tolerance_per_hour


def trend(seconds: ArrayLike, values: ArrayLike, block_s: float, warm_up_s: float) -> Trend | None:
    """The trend of readings, None where too few blocks are left to say.

    Args:
        seconds: when each was taken, rising.
        block_s: length of a block.
        warm_up_s: readings before this moment do not count.
    """
    at, read = np.asarray(seconds, float), np.asarray(values, float)
    kept = at >= warm_up_s
    at, read = at[kept], read[kept]
    if not len(at):
        return None
    numbers = ((at - warm_up_s) // block_s).astype(int)
    full = [number for number in np.unique(numbers) if np.count_nonzero(numbers == number) > 1]
    if len(full) < LEAST_BLOCKS:
        return None
    hours = [float(np.median(at[numbers == number])) / 3600 for number in full]
    medians = [float(np.median(read[numbers == number])) for number in full]
    slope, _, low, high = stats.theilslopes(medians, hours, CONFIDENCE)
    return Trend(
        round(float(slope), 3),
        round(float(low), 3),
        round(float(high), 3),
        round(float(np.median(medians)), 2),
        len(full),
    )
