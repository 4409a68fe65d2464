"""From three points of a face to the affine that crops it.

The similarity that maps the points onto a template, and LatentSync's
smoothing of it. What is remembered between frames belongs to one session.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.errors import VideoFormatError
from engine.media import F32
from engine.spec import FaceSpec

F64 = NDArray[np.float64]

LEFT_BROW, RIGHT_BROW, NOSE = 0, 1, 2
_TEMPLATE_BOX = (75.0, 100.0)  # width and height that the template's points are measured in
_TEMPLATE_POINTS = ((17.0, 20.0), (58.0, 20.0), (37.5, 40.0))
_BIAS_KEPT = 0.2  # share of the previous frame's bias

LANDMARKS_106 = ((43, 48, 49, 51, 50), (101, 102, 103, 104, 105), (74, 77, 83, 86))


@dataclass(slots=True)
class SmoothingState:
    """What one session's alignment remembers.

    Attributes:
        bias: [2] smoothed distance of the nose from the template's, in
            standard deviations of the points; None before the first frame.
    """

    bias: F64 | None = None

    def reset(self) -> None:
        """Forgets the last frame (after a cut, or when the face was lost)."""
        self.bias = None


def latentsync_face(resolution: int) -> FaceSpec:
    """The published crop for a working resolution."""
    ratio = resolution / 256 * 2.8
    left, right, nose = ((x * ratio, y * ratio) for x, y in _TEMPLATE_POINTS)
    width, height = (int(side * ratio) for side in _TEMPLATE_BOX)
    return FaceSpec(template=(left, right, nose), crop_width=width, crop_height=height)


def points_of_landmarks(landmarks: NDArray[Any]) -> F32:
    """[3, 2] left brow, right brow and nose of the 106-point layout, in whole pixels.

    Args:
        landmarks: [106, 2].
    """
    means = [np.mean(landmarks[list(group)], axis=0) for group in LANDMARKS_106]
    return np.round(np.stack(means)).astype(np.float32)


def align_affine(points: NDArray[Any], face: FaceSpec, state: SmoothingState | None = None) -> F32:
    """The affine from picture pixels to pixels of the face's warped crop.

    Args:
        points: [3, 2] left brow, right brow, nose in picture pixels.
        face: whose template the points are mapped onto.
        state: one session's smoothing, advanced by this frame; None for the
            plain similarity.

    Returns:
        [2, 3] float32

    Raises:
        VideoFormatError: the points are not three, not finite, or all one.
    """
    source = np.asarray(points, np.float64)
    if source.shape != (3, 2) or not np.isfinite(source).all() or np.ptp(source, axis=0).max() == 0:
        raise VideoFormatError(
            f"expected three different finite points [3, 2], got {source.tolist()}"
        )
    target = np.asarray(face.template, np.float64)
    source_mean, source_unit, source_scale = _normalised(source)
    target_mean, target_unit, target_scale = _normalised(target)
    u, _, vt = np.linalg.svd(source_unit.T @ target_unit)
    v = vt.T
    if np.linalg.det(v @ u.T) < 0:
        v[:, -1] *= -1.0
    linear = target_scale / source_scale * (v @ u.T)
    shift = target_mean - linear @ source_mean
    if state is not None:
        bias = target_unit[NOSE] - source_unit[NOSE]
        if state.bias is not None:
            bias = _BIAS_KEPT * state.bias + (1.0 - _BIAS_KEPT) * bias
        state.bias = bias
        shift = shift + bias
    return np.column_stack([linear, shift]).astype(np.float32)


def _normalised(points: F64) -> tuple[F64, F64, float]:
    """Mean, centred points of unit deviation, and that deviation (of all six numbers)."""
    mean = points.mean(axis=0)
    centred = points - mean
    deviation = float(centred.std(ddof=1))
    return mean, centred / deviation, deviation
