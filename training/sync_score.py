"""Offset, distance and confidence from embeddings of pictures and sound.

As SyncNet's authors measure sync: for every offset k of 15 frames either way the distance
between what is seen at frame t and what is heard at frame t + k, averaged over t. The least
of the 31 is the distance, its place the offset, and the median less the least the
confidence.

J. S. Chung, A. Zisserman, "Out of time: automated lip sync in the wild", ACCV workshops
2016; as LSE-D and LSE-C in K. R. Prajwal et al., "A lip sync expert is all you need for
speech to lip generation in the wild", ACM Multimedia 2020. Theirs are distances between
embeddings of no fixed length; ours have unit length, so that a distance lies between 0 and
1.42 and neither figure can be set beside theirs.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from engine.media import F32

F64 = NDArray[np.float64]

REACH: Final = 15  # frames either way that offsets are looked for


@dataclass(frozen=True, slots=True)
class SyncScore:
    """How well pictures fit their sound.

    Attributes:
        offset_frames: by how many frames the pictures come after their sound; negative: before.
        distance: at that offset.
        confidence: the median over offsets less `distance`; about 0: nothing fits.
        here: the distance as it is, without moving anything.
        windows: that were looked at.
    """

    offset_frames: int
    distance: float
    confidence: float
    here: float
    windows: int

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        values = dataclasses.asdict(self)
        return {k: round(v, 4) if isinstance(v, float) else v for k, v in values.items()}


def distances(seen: F32, heard: F32, first: int = 0, reach: int = REACH) -> F64:
    """[n, 2 * reach + 1]: between picture window t and sound window t + first + k.

    Column reach + k is offset k; nan where there is no such sound.

    Args:
        seen: [n, D] of unit length.
        heard: [m, D] of unit length.
        first: the sound window that belongs to picture window 0.
    """
    table = np.full((len(seen), 2 * reach + 1), np.nan)
    for column in range(2 * reach + 1):
        places = np.arange(len(seen)) + first + column - reach
        known = (places >= 0) & (places < len(heard))
        off = seen[known].astype(np.float64) - heard[places[known]]
        table[known, column] = np.sqrt((off**2).sum(axis=1))
    return table


def looped_distances(seen: F32, heard: F32) -> F64:
    """[n, 31] where the sound goes round and round: window t is heard's t modulo its length."""
    rounds = -(-(len(seen) + 2 * REACH) // len(heard)) + 2
    return distances(seen, np.tile(heard, (rounds, 1)), first=-(-REACH // len(heard)) * len(heard))


def sync_score(tables: Sequence[F64]) -> SyncScore | None:
    """The score of clips together, by the distances of each; None: they are too short."""
    table = np.concatenate(list(tables))
    counted = (~np.isnan(table)).sum(axis=0)
    reach = table.shape[1] // 2
    if not counted[reach]:
        return None
    curve = np.full(table.shape[1], np.nan)
    curve[counted > 0] = np.nansum(table[:, counted > 0], axis=0) / counted[counted > 0]
    best = int(np.nanargmin(curve))
    least = float(curve[best])
    return SyncScore(
        offset_frames=reach - best,
        distance=least,
        confidence=float(np.nanmedian(curve)) - least,
        here=float(curve[reach]),
        windows=len(table),
    )
