"""How a face moved between two pictures: the optical flow of its upper half.

The mouth below moves on its own. Flow is smooth to a fraction of a pixel, but drifts.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from engine.face.detect import FaceBox
from engine.media import F32, U8

F64 = NDArray[np.float64]

_HEIGHT: Final = 360  # of the pictures it runs on, at most
_POINTS: Final = 60
_RESEED: Final = 30  # points below which new ones are chosen
_FEWEST: Final = 8  # points below which the movement is not trusted
_OWN_MOTION: Final = 3.0  # pixels: what moves further against the head is a hand before it


@dataclass(slots=True)
class FlowState:
    """What flow remembers of the picture before.

    Attributes:
        luma: that picture, scaled by `scale`.
        points: float32 [n, 1, 2] on it, on the followed face.
    """

    luma: U8 | None = None
    scale: float = 1.0
    points: F32 = field(default_factory=lambda: np.zeros((0, 1, 2), np.float32))


@dataclass(frozen=True, slots=True)
class Movement:
    """A face's movement between two pictures, in the picture's own pixels.

    Attributes:
        linear, shift: [2, 2] and [2] of the similarity that took the face along.
        before, after: float32 [n, 2] points of the head in both pictures.
    """

    linear: F64
    shift: F64
    before: F32
    after: F32

    @property
    def growth(self) -> float:
        return float(np.hypot(self.linear[0, 0], self.linear[1, 0]))

    def moved(self, points: F32) -> F32:
        """float32 [n, 2]: where the movement took points."""
        return np.asarray(points @ self.linear.T + self.shift, np.float32)

    def moved_box(self, box: FaceBox) -> FaceBox:
        """Where the movement took a box."""
        x, y = np.array(box.centre) @ self.linear.T + self.shift
        size = box.size * self.growth
        return FaceBox(float(x) - size / 2, float(y) - size / 2, size)


def show(state: FlowState, luma: U8) -> None:
    """Takes the next picture without asking how it continues the one before."""
    state.luma, state.scale = _shrunk(luma)


def follow(state: FlowState, luma: U8) -> Movement | None:
    """The movement since the picture before; None: it can't be trusted.

    Args:
        luma: the next picture.
    """
    before, points = state.luma, state.points
    show(state, luma)
    if before is None or state.luma is None or len(points) < _FEWEST:
        return None
    moved, status, _ = cv2.calcOpticalFlowPyrLK(
        before, state.luma, points, np.zeros_like(points), winSize=(17, 17), maxLevel=3
    )
    kept = status.ravel() == 1
    start, end = points[kept], np.asarray(moved, np.float32)[kept]
    if len(start) < _FEWEST:
        return None
    motion, inliers = cv2.estimateAffinePartial2D(
        start, end, method=cv2.RANSAC, ransacReprojThreshold=1.0
    )
    if motion is None or int(inliers.sum()) < max(_FEWEST, len(start) // 3):
        return None
    linear, shift = motion[:, :2], motion[:, 2]
    expected = start[:, 0] @ linear.T + shift
    own = np.hypot(*(end[:, 0] - expected).T) < _OWN_MOTION
    scale = np.float32(state.scale)
    result = Movement(linear, shift / state.scale, start[own, 0] / scale, end[own, 0] / scale)
    if not 0.8 < result.growth < 1.25:
        return None
    state.points = end[inliers.ravel() == 1]
    return result


def seed(state: FlowState, box: FaceBox) -> None:
    """Chooses fresh points on the upper half of a face."""
    assert state.luma is not None
    scale = state.scale
    top, bottom = box.top, box.top + 0.64 * box.size
    left, right = box.left + 0.08 * box.size, box.left + 0.92 * box.size
    y, x = max(int(top * scale), 0), max(int(left * scale), 0)
    part = state.luma[y : max(int(bottom * scale), 0), x : max(int(right * scale), 0)]
    found = None
    if min(part.shape) > 8:
        found = cv2.goodFeaturesToTrack(part, _POINTS, 0.004, max(box.size * scale / 24, 3.0))
    if found is None:
        state.points = np.zeros((0, 1, 2), np.float32)
        return
    state.points = np.asarray(found, np.float32) + np.array([x, y], np.float32)


def sparse(state: FlowState) -> bool:
    """Whether so many points were lost that fresh ones are due."""
    return len(state.points) < _RESEED


def _shrunk(luma: U8) -> tuple[U8, float]:
    scale = min(_HEIGHT / luma.shape[0], 1.0)
    if scale == 1.0:
        return luma, scale
    small = cv2.resize(luma, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    return np.asarray(small, np.uint8), scale
