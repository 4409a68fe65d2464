"""A turn and a missing face close the gate, with hysteresis."""

from __future__ import annotations

import numpy as np

from engine.face.verdict import MISSED_LIMIT, VerdictState, judge_mouth
from engine.gate import FaceClosed


def _judge(
    state: VerdictState, degrees: float, missed: int = 0, *, doubtful: bool = False
) -> FaceClosed | None:
    return judge_mouth(state, None, float(np.radians(degrees)), missed, doubtful=doubtful)


def test_a_turn_closes_at_35_degrees_and_opens_at_28() -> None:
    state = VerdictState()
    turns = [0.0, 30.0, 34.0, -36.0, -30.0, -27.0, 30.0]
    reasons = [_judge(state, turn) for turn in turns]
    assert reasons == [None, None, None, "profile", "profile", None, None]
    assert state.slipped


def test_a_lesser_turn_closes_where_no_frontal_face_was_found() -> None:
    state = VerdictState()
    assert _judge(state, 25.0) is None
    assert _judge(state, 25.0, missed=8) == "profile"
    assert _judge(state, 20.0, missed=8) == "profile"
    assert _judge(state, 20.0) is None


def test_a_face_that_is_missed_for_long_or_may_be_anothers_is_none() -> None:
    state = VerdictState()
    assert _judge(state, 0.0, missed=MISSED_LIMIT // 2) is None
    assert _judge(state, 0.0, missed=MISSED_LIMIT // 2 + 1) == "no_face"
    assert _judge(state, 0.0, doubtful=True) == "no_face"
