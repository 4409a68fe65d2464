"""How the upper half of a face looks, whatever the light and the skin, and how alike two are.

Brows, eyes and the nose's edges are told by how they differ from what is around them. A lamp
changes the level and the slope of a face's brightness, and on dark skin all differences are
small: so each place is held against the mean around it and scaled by the contrast around it.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from engine.face.view import ABOVE, MIDDLE, WIDTH
from engine.media import F32

F64 = NDArray[np.float64]

ROWS: Final = slice(ABOVE - 12, ABOVE + 28)  # forehead to the nose's tip: what speech leaves alone
RADIUS: Final = 41.0  # of the cylinder that a head is taken for, in units of the face template
STEP: Final = 10  # degrees between two turns that are tried
FURTHEST: Final = 60
SHIFT: Final = 4  # units that a view may be off

# Sigmas in units: of a camera's noise and a unit's misplacement, of an eye, of what is around it.
_FINE, _AROUND, _CONTRAST_AROUND = 1.0, 3.0, 6.0
_NOISE: Final = 3.0  # levels of contrast that say nothing
_SEEN: Final = np.radians(62.0)  # beyond this angle the straight view shows nothing


def face_looks(view: F32) -> F32:
    """float32 [rows, WIDTH]: brightness against what is around, about -3 to 3.

    Args:
        view: `engine.face.view.face_view` of the face.
    """
    luma = _smooth(view[0], _FINE)
    difference = luma - _smooth(luma, _AROUND)
    contrast = np.sqrt(_smooth(difference * difference, _CONTRAST_AROUND) + _NOISE**2)
    return np.asarray((difference / contrast)[ROWS], np.float32)


def likeness(straight: F32, looks: F32, turns: slice = slice(None)) -> F64:
    """Correlation of `looks` with the straight face at every turn that is tried, or at some."""
    scores = []
    for columns, first in _turned_columns()[turns]:
        rows = np.arange(SHIFT, straight.shape[0] - SHIFT, dtype=np.float32)
        expected = cv2.remap(
            straight,
            np.tile(columns, (len(rows), 1)),
            np.tile(rows[:, None], (1, len(columns))),
            cv2.INTER_LINEAR,
        )
        part = looks[:, first - SHIFT : first + len(columns) + SHIFT]
        scores.append(float(cv2.matchTemplate(part, expected, cv2.TM_CCOEFF_NORMED).max()))
    return np.array(scores)


def likeliest_turn(scores: F64) -> float:
    """Radians of the turn that fits best, by the parabola through it and its neighbours.

    Args:
        scores: `likeness` at every turn.
    """
    best, offset = int(scores.argmax()), 0.0
    if 0 < best < len(scores) - 1:
        left, middle, right = scores[best - 1 : best + 2]
        bend = left - 2 * middle + right
        if bend < -1e-9:
            offset = float(np.clip(0.5 * (left - right) / bend, -0.5, 0.5))
    return float(np.radians(-FURTHEST + STEP * (best + offset)))


def most_alike(looks: Sequence[F32]) -> F32:
    """Of some looks those that are most like all the others: detections are off now and then."""
    flat = np.stack([each.ravel() - each.mean() for each in looks])
    flat /= np.linalg.norm(flat, axis=1, keepdims=True) + 1e-6
    return looks[int((flat @ flat.T).sum(axis=1).argmax())].copy()


def _smooth(layer: F32, sigma: float) -> F32:
    smooth = cv2.GaussianBlur(layer, (0, 0), sigma, borderType=cv2.BORDER_REPLICATE)
    return np.asarray(smooth, np.float32)


@functools.cache
def _turned_columns() -> tuple[tuple[F32, int], ...]:
    """For every turn: the column of the straight view that each column shows, and the first."""
    result = []
    for degrees in range(-FURTHEST, FURTHEST + 1, STEP):
        turn = np.radians(degrees)
        column = np.arange(4 + SHIFT, WIDTH - 4 - SHIFT)
        sine = (column - MIDDLE) / RADIUS + np.sin(turn)
        angle = np.arcsin(np.clip(sine, -0.98, 0.98)) - turn
        seen = (np.abs(sine) < 0.98) & (np.abs(angle) < _SEEN)
        shown = (RADIUS * np.sin(angle) + MIDDLE)[seen].astype(np.float32)
        result.append((shown, int(column[seen][0])))
    return tuple(result)
