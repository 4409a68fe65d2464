"""Points that slipped find their way back by the looks of the face."""

from __future__ import annotations

import numpy as np

from benchmarks.gate_scenes import Head, framed
from engine.face.register import registered, registered_points
from engine.face.turn import SETTLED_VIEWS, TurnState, judge_turn
from engine.face.view import face_view
from engine.media import F32
from tests.rendered_heads import idle_heads, shot


def _placed(head: Head) -> F32:
    """The head's points in the 640 x 480 pixels of a `shot`."""
    return framed(head, 640, 480)[1]


def _learnt() -> TurnState:
    state = TurnState()
    for head in idle_heads("anna")[: SETTLED_VIEWS + 1]:
        judge_turn(state, face_view(shot(head), _placed(head)))
    return state


def test_points_that_slipped_are_registered_to_the_learnt_face() -> None:
    head, state = idle_heads("anna")[8], _learnt()
    true = _placed(head)
    middle = true.mean(axis=0)
    points = np.asarray((true - middle) * 1.06 + middle + [5.0, -4.0], np.float32)
    errors = []
    for _ in range(8):
        errors.append(float(np.abs(points - true).max()))
        points = registered_points(state, face_view(shot(head), points), points)
    assert errors[0] > 6.0
    assert errors[-1] < 1.5


def test_a_turned_face_is_not_registered() -> None:
    head, state = idle_heads("anna")[8], _learnt()
    state.yaw = 0.3
    view = face_view(shot(head), _placed(head))
    assert registered(state, view) is None
    assert np.array_equal(registered_points(state, view, _placed(head)), _placed(head))
