"""Whether a picture shows another scene than the one before."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np

from engine.media import F32, U8

CUT: Final = 28.0  # mean difference of two thumbnails, in levels of luma
_CUT_UNFOLLOWED: Final = 12.0  # the same where the flow lost the face
_THUMBNAIL: Final = (32, 24)


@dataclass(slots=True)
class SceneState:
    """What is remembered of the picture before: its thumbnail and its size."""

    thumbnail: F32 | None = None
    size: tuple[int, ...] = ()


def scene_change(state: SceneState, luma: U8) -> float:
    """Mean difference to the picture before, in levels; infinite if there is none like it."""
    shrunk = cv2.resize(luma, _THUMBNAIL, interpolation=cv2.INTER_AREA)
    before, size = state.thumbnail, state.size
    state.thumbnail, state.size = np.asarray(shrunk, np.float32), luma.shape
    if before is None or size != luma.shape:
        return float("inf")
    return float(np.abs(state.thumbnail - before).mean())


def is_cut(change: float, *, lost: bool) -> bool:
    """Whether so much change is another scene.

    Args:
        lost: a face was followed, and its flow can't be trusted.
    """
    return change > (_CUT_UNFOLLOWED if lost else CUT)
