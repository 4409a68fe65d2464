"""Where a face lies in its view, to a fraction of a unit, by its looks."""

from __future__ import annotations

from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from engine.face.looks import ROWS, SHIFT, face_looks
from engine.face.turn import TurnState
from engine.face.view import ABOVE, MIDDLE, view_affine
from engine.media import F32

F64 = NDArray[np.float64]

_ALIKE: Final = 0.8  # correlation below which looks say nothing about the place
_STRAIGHT: Final = np.radians(9.0)
_ROUNDS: Final = 3
_LEAST_REST: Final = 0.1  # of the looks' unit: below, nothing counts as differing
_SHARE: Final = 0.4  # of the way to where a face looks right


def registered(state: TurnState, view: F32) -> F64 | None:
    """[2, 3] similarity from where the face should be in the view to where it is.

    None where it is turned or too different to tell. By least squares over the looks: where
    the learnt face, moved a little, differs from the view, its slopes say how far.
    """
    if not state.settled or state.straight is None:
        return None
    if state.alike < _ALIKE or abs(state.yaw) > _STRAIGHT:
        return None
    looks = face_looks(view)
    height, width = looks.shape
    inner = (slice(SHIFT, height - SHIFT), slice(10, width - 10))
    across, along = np.arange(width) - MIDDLE, np.arange(height) + float(ROWS.start - ABOVE)
    x, y = (grid[inner].ravel() for grid in np.meshgrid(across, along))
    wanted = state.straight[inner].ravel()
    # About the middle between the brows: growth, roll, shift right, shift down.
    grow = roll = right = down = 0.0
    centre: F64 = np.array([MIDDLE, float(ABOVE - ROWS.start)])
    for _ in range(_ROUNDS):
        linear = _similar(grow, roll)
        shift: F64 = centre - linear @ centre + np.array([right, down])
        matrix = np.column_stack([linear, shift]).astype(np.float32)
        moved = np.asarray(
            cv2.warpAffine(
                looks,
                matrix,
                (width, height),
                flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
                borderMode=cv2.BORDER_REPLICATE,
            ),
            np.float64,
        )
        slope_x, slope_y = np.gradient(moved, axis=1), np.gradient(moved, axis=0)
        gx, gy, now = slope_x[inner].ravel(), slope_y[inner].ravel(), moved[inner].ravel()
        model = np.column_stack([now, np.ones_like(now), gx * x + gy * y, gy * x - gx * y, gx, gy])
        weights: F64 = np.ones(len(now))
        solution: F64 = np.zeros(6)
        for _ in range(2):  # brows and lids move on their own: what differs most counts little
            weighted = model * weights[:, None]
            normal = weighted.T @ model + 1e-3 * np.eye(6)
            solution = np.asarray(np.linalg.solve(normal, weighted.T @ wanted), np.float64)
            rest = wanted - model @ solution
            scale = max(2.0 * float(np.median(np.abs(rest))), _LEAST_REST)
            weights = 1.0 / (1.0 + (rest / scale) ** 2)
        contrast = max(float(solution[0]), 0.2)
        grow, roll, right, down = np.array([grow, roll, right, down]) + solution[2:] / contrast
        if max(abs(grow), abs(roll)) > 0.15 or max(abs(right), abs(down)) > 2 * SHIFT:
            return None
    linear = _similar(grow, roll)
    place = np.array([MIDDLE, float(ABOVE)])
    return np.column_stack([linear, place - linear @ place + [right, down]])


def _similar(grow: float, roll: float) -> F64:
    return np.array([[1.0 + grow, -roll], [roll, 1.0 + grow]])


def registered_points(state: TurnState, view: F32, points: F32) -> F32:
    """float32 [3, 2]: points that have slipped, part of the way to where the face looks right.

    Args:
        view: `engine.face.view.face_view` of the face.
        points: [3, 2] in the picture that it is of.
    """
    off = registered(state, view)
    if off is None:
        return points
    affine = view_affine(points).astype(np.float64)
    shown = points @ affine[:, :2].T + affine[:, 2]
    back = np.asarray(cv2.invertAffineTransform(affine))
    right = (shown @ off[:, :2].T + off[:, 2]) @ back[:, :2].T + back[:, 2]
    return np.asarray(points + _SHARE * (right - points), np.float32)
