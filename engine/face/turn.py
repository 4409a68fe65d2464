"""How far a head is turned, from the movement of its upper half and from its looks.

Between two pictures, points near the middle of a turning head move further than points at
its sides: on a cylinder, by the turn times their depth. That is quick and exact but drifts.
So now and then the face is held against the face seen straight, learnt when it was, turned
by computation on the same cylinder: the turn that looks most alike is where the head is.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from engine.face.view import ABOVE, MIDDLE, WIDTH
from engine.media import F32

F64 = NDArray[np.float64]

RADIUS: Final = 41.0  # of the cylinder, in units of the face template
_SHALLOW: Final = 0.2  # of the radius: depth that a point at the rim is taken for
_RIDGE: Final = 5.0  # keeps the turn still where few points lie far apart
_ROUNDS: Final = 3

SETTLED_VIEWS: Final = 5

_ROWS: Final = slice(ABOVE - 12, ABOVE + 28)  # forehead to the nose's tip: what speech leaves alone
_SHIFT: Final = 4  # units that the view may be off
_STEP: Final = 10  # degrees between two turns that are tried
_FURTHEST: Final = 60
_ABOUT: Final = 2  # steps around a known turn
_SEEN: Final = np.radians(62.0)  # beyond this angle the straight view shows nothing
_ALIKE: Final = 0.7  # correlation below which looks say nothing about the turn: a blink, say
_TRUST: Final = 0.4  # share of the difference to the looks that is made up at once
_CLEARLY: Final = 0.06  # more alike than at the followed turn
_ALIKE_TO_REGISTER: Final = 0.8
_STRAIGHT_TO_REGISTER: Final = np.radians(9.0)
_REGISTER_ROUNDS: Final = 3
_HARDLY: Final = 0.01  # less alike than at the best turn
_FRONTAL: Final = 0.8  # of a turn stays where a frontal face was found and looks agree
_STRAIGHT: Final = np.radians(8.0)
_LEARN_ALIKE: Final = 0.85
_LEARN: Final = 0.05  # share of a new straight view in the learnt one


@dataclass(slots=True)
class TurnState:
    """What one session remembers of a head's turn.

    Attributes:
        yaw: radians to the picture's right.
        straight: float32 [rows, WIDTH] luma of the face seen straight; None: not learnt yet.
        alike: correlation of the last view with it, at the turn that fitted best.
        first: the first views, of which the straight one is chosen.
    """

    yaw: float = 0.0
    straight: F32 | None = None
    alike: float = 1.0
    first: list[F32] = field(default_factory=list)

    def reset(self) -> None:
        """Forgets the face."""
        self.yaw, self.straight, self.alike = 0.0, None, 1.0
        self.first = []

    @property
    def settled(self) -> bool:
        """Whether the face has been seen often enough to be known."""
        return len(self.first) >= SETTLED_VIEWS


def follow_turn(state: TurnState, before: F32, after: F32, middle: F64, unit: float) -> None:
    """Adds the turn between two pictures.

    Args:
        before, after: [n, 2] the same points of the upper face in both, in pixels.
        middle: [2] between the eyes in the first picture.
        unit: pixels of a unit of the face template.
    """
    places = (before.astype(np.float64) - middle) / unit
    moved = (after.astype(np.float64) - before) / unit
    count = len(places)
    from_axis = places[:, 0] + RADIUS * np.sin(state.yaw)
    depth = np.sqrt(np.maximum(RADIUS**2 - from_axis**2, (_SHALLOW * RADIUS) ** 2))
    # Shift, growth, roll, yaw, nod: the movement is linear in all six.
    model = np.zeros((2 * count, 6))
    model[:count, 0] = model[count:, 1] = 1.0
    model[:count, 2], model[count:, 2] = places[:, 0], places[:, 1]
    model[:count, 3], model[count:, 3] = -places[:, 1], places[:, 0]
    model[:count, 4] = model[count:, 5] = depth
    target = np.concatenate([moved[:, 0], moved[:, 1]])
    ridge = np.diag([1e-6, 1e-6, 1e-6, 1e-6, _RIDGE, _RIDGE])
    weights = np.ones(count)
    solution = np.zeros(6)
    for _ in range(_ROUNDS):
        weighted = model * np.concatenate([weights, weights])[:, None]
        solution = np.linalg.solve(weighted.T @ model + ridge, weighted.T @ target)
        rest = target - model @ solution
        distance = np.hypot(rest[:count], rest[count:])
        scale = max(3.0 * float(np.median(distance)), 0.1)
        weights = 1.0 / (1.0 + (distance / scale) ** 2)
    limit = np.radians(90.0)
    state.yaw = float(np.clip(state.yaw + solution[4], -limit, limit))


def judge_turn(state: TurnState, view: F32, *, frontal: bool = False) -> None:
    """Corrects the turn by the looks of the face, and learns how it looks straight.

    Args:
        view: `engine.face.view.face_view` of the face.
        frontal: a detector of frontal faces has just found it.
    """
    luma = view[0][_ROWS]
    if not state.settled or state.straight is None:
        state.first.append(luma.copy())
        state.straight = _most_alike(state.first)
        return
    alike = likeness(state.straight, luma)
    best = int(alike.argmax())
    state.alike = float(alike[best])
    if state.alike < _ALIKE:
        return
    looks = _vertex(alike, best)
    # Between turns that look nearly the same, the flow knows better.
    tried = np.arange(-_FURTHEST, _FURTHEST + 1, _STEP)
    here = float(np.interp(np.degrees(state.yaw), tried, alike))
    gain = float(np.clip((state.alike - here) / _CLEARLY, 0.0, 1.0))
    state.yaw += _TRUST * gain * (looks - state.yaw)
    if frontal and alike[len(tried) // 2] > state.alike - _HARDLY:
        state.yaw *= _FRONTAL
    if abs(looks) < _STRAIGHT and abs(state.yaw) < _STRAIGHT and state.alike > _LEARN_ALIKE:
        state.straight += np.float32(_LEARN) * (luma - state.straight)


def registered(state: TurnState, view: F32) -> F64 | None:
    """[2, 3] similarity from where the face should be in the view to where it is.

    None where it is turned or too different to tell. By least squares over brightness: where
    the learnt face, moved a little, differs from the view, its slopes say how far.
    """
    if not state.settled or state.straight is None:
        return None
    if state.alike < _ALIKE_TO_REGISTER or abs(state.yaw) > _STRAIGHT_TO_REGISTER:
        return None
    luma = view[0][_ROWS]
    height, width = luma.shape
    inner = (slice(_SHIFT, height - _SHIFT), slice(10, width - 10))
    across, along = np.arange(width) - MIDDLE, np.arange(height) + float(_ROWS.start - ABOVE)
    x, y = (grid[inner].ravel() for grid in np.meshgrid(across, along))
    wanted = state.straight[inner].ravel()
    # About the middle between the brows: growth, roll, shift right, shift down.
    grow = roll = right = down = 0.0
    centre: F64 = np.array([MIDDLE, float(ABOVE - _ROWS.start)])
    for _ in range(_REGISTER_ROUNDS):
        linear = _similar(grow, roll)
        shift: F64 = centre - linear @ centre + np.array([right, down])
        matrix = np.column_stack([linear, shift]).astype(np.float32)
        moved = np.asarray(
            cv2.warpAffine(
                luma,
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
            weights = 1.0 / (1.0 + (rest / max(2.0 * float(np.median(np.abs(rest))), 1.0)) ** 2)
        contrast = max(float(solution[0]), 0.2)
        grow, roll, right, down = np.array([grow, roll, right, down]) + solution[2:] / contrast
        if max(abs(grow), abs(roll)) > 0.15 or max(abs(right), abs(down)) > 2 * _SHIFT:
            return None
    linear = _similar(grow, roll)
    place = np.array([MIDDLE, float(ABOVE)])
    return np.column_stack([linear, place - linear @ place + [right, down]])


def _similar(grow: float, roll: float) -> F64:
    return np.array([[1.0 + grow, -roll], [roll, 1.0 + grow]])


def same_person(state: TurnState, view: F32) -> float:
    """Likeness of a view to the learnt face about as far turned; 1.0 if none is learnt."""
    if state.straight is None:
        return 1.0
    middle = round((np.degrees(state.yaw) + _FURTHEST) / _STEP)
    middle = min(max(middle, _ABOUT), 2 * _FURTHEST // _STEP - _ABOUT)
    turns = slice(middle - _ABOUT, middle + _ABOUT + 1)
    return float(likeness(state.straight, view[0][_ROWS], turns).max())


def likeness(straight: F32, luma: F32, turns: slice = slice(None)) -> F64:
    """Correlation of `luma` with the straight face at every turn that is tried, or at some."""
    scores = []
    for columns, first in _turned_columns()[turns]:
        rows = np.arange(_SHIFT, straight.shape[0] - _SHIFT, dtype=np.float32)
        expected = cv2.remap(
            straight,
            np.tile(columns, (len(rows), 1)),
            np.tile(rows[:, None], (1, len(columns))),
            cv2.INTER_LINEAR,
        )
        part = luma[:, first - _SHIFT : first + len(columns) + _SHIFT]
        scores.append(float(cv2.matchTemplate(part, expected, cv2.TM_CCOEFF_NORMED).max()))
    return np.array(scores)


@functools.cache
def _turned_columns() -> tuple[tuple[F32, int], ...]:
    """For every turn: the column of the straight view that each column shows, and the first."""
    result = []
    for degrees in range(-_FURTHEST, _FURTHEST + 1, _STEP):
        turn = np.radians(degrees)
        column = np.arange(4 + _SHIFT, WIDTH - 4 - _SHIFT)
        sine = (column - MIDDLE) / RADIUS + np.sin(turn)
        angle = np.arcsin(np.clip(sine, -0.98, 0.98)) - turn
        seen = (np.abs(sine) < 0.98) & (np.abs(angle) < _SEEN)
        shown = (RADIUS * np.sin(angle) + MIDDLE)[seen].astype(np.float32)
        result.append((shown, int(column[seen][0])))
    return tuple(result)


def _most_alike(views: Sequence[F32]) -> F32:
    """The view that is most like all the others: detections are off now and then."""
    flat = np.stack([view.ravel() - view.mean() for view in views])
    flat /= np.linalg.norm(flat, axis=1, keepdims=True) + 1e-6
    return views[int((flat @ flat.T).sum(axis=1).argmax())].copy()


def _vertex(scores: F64, best: int) -> float:
    """Radians of the best turn, by the parabola through it and its neighbours."""
    offset = 0.0
    if 0 < best < len(scores) - 1:
        left, middle, right = scores[best - 1 : best + 2]
        bend = left - 2 * middle + right
        if bend < -1e-9:
            offset = float(np.clip(0.5 * (left - right) / bend, -0.5, 0.5))
    return float(np.radians(-_FURTHEST + _STEP * (best + offset)))
