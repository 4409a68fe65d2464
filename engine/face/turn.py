"""How far a head is turned, from the movement of its upper half and from its looks.

Between two pictures, points near the middle of a turning head move further than points at
its sides: on a cylinder, by the turn times their depth. That is quick and exact but drifts.
So now and then the face is held against the face seen straight, learnt when it was, turned
by computation on the same cylinder: the turn that looks most alike is where the head is.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from engine.face.looks import (
    FURTHEST,
    RADIUS,
    STEP,
    face_looks,
    likeliest_turn,
    likeness,
    most_alike,
)
from engine.media import F32

F64 = NDArray[np.float64]

_SHALLOW: Final = 0.2  # of the radius: depth that a point at the rim is taken for
_RIDGE: Final = 5.0  # keeps the turn still where few points lie far apart
_ROUNDS: Final = 3

SETTLED_VIEWS: Final = 5

_ABOUT: Final = 2  # steps around a known turn
_ALIKE: Final = 0.65  # correlation below which looks say nothing about the turn: a blink, say
_TRUST: Final = 0.4  # share of the difference to the looks that is made up at once
_CLEARLY: Final = 0.06  # more alike than at the followed turn
_HARDLY: Final = 0.01  # less alike than at the best turn
_FRONTAL: Final = 0.8  # of a turn stays where a frontal face was found and looks agree
_STRAIGHT: Final = np.radians(8.0)
_LEARN_ALIKE: Final = 0.65
# Share of a new straight view in the learnt one: more of it where the light has changed.
_LEARN: Final = (0.05, 0.25)


@dataclass(slots=True)
class TurnState:
    """What one session remembers of a head's turn.

    Attributes:
        yaw: radians to the picture's right.
        straight: `face_looks` of the face seen straight; None: not learnt yet.
        alike: correlation of the last view with it, at the turn that fitted best.
        first: the first looks, of which the straight ones are chosen.
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


def judge_turn(state: TurnState, view: F32, *, frontal: bool = False, learn: bool = True) -> None:
    """Corrects the turn by the looks of the face, and learns how it looks straight.

    Args:
        view: `engine.face.view.face_view` of the face.
        frontal: a detector of frontal faces has just found it.
        learn: it is surely the face that was learnt.
    """
    looks = face_looks(view)
    if not state.settled or state.straight is None:
        state.first.append(looks)
        state.straight = most_alike(state.first)
        return
    alike = likeness(state.straight, looks)
    state.alike = float(alike.max())
    if state.alike < _ALIKE:
        return
    likeliest = likeliest_turn(alike)
    # Between turns that look nearly the same, the flow knows better.
    tried = np.arange(-FURTHEST, FURTHEST + 1, STEP)
    here = float(np.interp(np.degrees(state.yaw), tried, alike))
    gain = float(np.clip((state.alike - here) / _CLEARLY, 0.0, 1.0))
    state.yaw += _TRUST * gain * (likeliest - state.yaw)
    if frontal and alike[len(tried) // 2] > state.alike - _HARDLY:
        state.yaw *= _FRONTAL
    straight = abs(likeliest) < _STRAIGHT and abs(state.yaw) < _STRAIGHT
    if learn and straight and state.alike > _LEARN_ALIKE:
        rate = np.clip(1.0 - state.alike, *_LEARN)
        state.straight += np.float32(rate) * (looks - state.straight)


def same_person(state: TurnState, view: F32) -> float:
    """Likeness of a view to the learnt face about as far turned; 1.0 if none is learnt."""
    if state.straight is None:
        return 1.0
    middle = round((np.degrees(state.yaw) + FURTHEST) / STEP)
    middle = min(max(middle, _ABOUT), 2 * FURTHEST // STEP - _ABOUT)
    turns = slice(middle - _ABOUT, middle + _ABOUT + 1)
    return float(likeness(state.straight, face_looks(view), turns).max())
