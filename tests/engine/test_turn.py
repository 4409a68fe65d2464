"""A head's turn is followed by flow, corrected by looks, and closes the gate as a profile."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import cv2
import numpy as np
import pytest

from benchmarks.gate_scenes import Head, framed, turned
from engine.face.haar import HaarDetector
from engine.face.track import FaceTracker
from engine.face.tracked import Tracked
from engine.face.turn import (
    SETTLED_VIEWS,
    TurnState,
    follow_turn,
    judge_turn,
    same_person,
)
from engine.face.verdict import PROFILE_CLOSE
from engine.face.view import face_view
from engine.media import F32
from tests.rendered_heads import idle_heads, shot


def _played(name: str, yaw_degrees: Sequence[float]) -> list[Tracked]:
    tracker = FaceTracker(HaarDetector())
    heads = idle_heads(name)
    answers = []
    for index, yaw in enumerate(yaw_degrees):
        head = turned(heads[index % len(heads)], yaw)
        answers.append(tracker.update(shot(head, index)))
    return answers


def _turn_and_back(angle: float) -> list[float]:
    corners = [(0, 0.0), (15, 0.0), (25, angle), (40, angle), (50, 0.0), (62, 0.0)]
    at, values = zip(*corners, strict=True)
    return [float(value) for value in np.interp(np.arange(62), at, values)]


@pytest.mark.parametrize(("name", "angle"), [("anna", 60.0), ("marco", -60.0)])
def test_a_profile_closes_the_gate_within_400_ms_and_its_return_opens_it(
    name: str, angle: float
) -> None:
    yaw = _turn_and_back(angle)
    answers = _played(name, yaw)
    reasons = [answer.closed for answer in answers]
    first = next(index for index, value in enumerate(yaw) if abs(value) > 35.0)
    back = next(index for index in range(40, 62) if abs(yaw[index]) < 25.0)
    assert reasons[:15] == [None] * 15
    assert "profile" in reasons[first - 3 : first + 10]
    assert None not in reasons[first + 10 : 40]
    # Its place is still known when it closes: the mouth fades there.
    closed = reasons.index("profile")
    assert all(answer.face is not None for answer in answers[: closed + 1])
    assert reasons[back + 10 :] == [None] * (52 - back)


def test_a_glance_aside_does_not_close_the_gate() -> None:
    answers = _played("mei", _turn_and_back(20.0))
    assert all(answer.closed is None for answer in answers)
    turns = [answer.face.yaw for answer in answers if answer.face is not None]
    assert 12.0 < np.degrees(max(turns)) < 30.0


def _points_of_a_cylinder(yaw: float, shift: float = 0.0, grow: float = 1.0) -> F32:
    angles, heights = np.meshgrid(np.radians(np.arange(-50, 51, 10)), np.arange(-12, 25, 6))
    x = 41.0 * np.sin(angles + yaw) - 41.0 * np.sin(yaw)
    points = np.stack([x.ravel() * grow + 100 + shift, heights.ravel() * grow + 80], axis=1)
    return np.asarray(points, np.float32)


def test_points_on_a_cylinder_tell_its_turn_and_neither_shift_nor_growth_does() -> None:
    state = TurnState()
    steps = np.radians(np.arange(0, 41, 2.5))
    for before, after in itertools.pairwise(steps):
        middle = np.array([100.0, 80.0])
        seen = _points_of_a_cylinder(float(before)), _points_of_a_cylinder(float(after))
        follow_turn(state, *seen, middle, 1.0)
    assert np.degrees(state.yaw) == pytest.approx(40.0, abs=4.0)
    still = TurnState()
    moved = _points_of_a_cylinder(0.0, shift=7.0, grow=1.05)
    follow_turn(still, _points_of_a_cylinder(0.0), moved, np.array([100.0, 80.0]), 1.0)
    assert abs(np.degrees(still.yaw)) < 1.5


def _placed(head: Head) -> F32:
    """The head's points in the 640 x 480 pixels of a `shot`."""
    return framed(head, 640, 480)[1]


def test_looks_correct_a_turn_that_drifted() -> None:
    heads = idle_heads("anna")
    state = TurnState()
    for index in range(SETTLED_VIEWS):
        assert not state.settled
        judge_turn(state, face_view(shot(heads[index]), _placed(heads[index])))
    assert state.settled
    state.yaw = float(PROFILE_CLOSE)
    for index in range(SETTLED_VIEWS, SETTLED_VIEWS + 7):
        judge_turn(state, face_view(shot(heads[index]), _placed(heads[index])))
    assert abs(np.degrees(state.yaw)) < 6.0


def test_a_face_is_more_like_itself_than_like_another() -> None:
    heads = {name: idle_heads(name, 30) for name in ("anna", "mei")}

    def view(name: str, index: int) -> F32:
        head = heads[name][index]
        return face_view(shot(head, index), _placed(head))

    state = TurnState()
    judge_turn(state, view("anna", 0))
    assert same_person(state, view("anna", 25)) > 0.9
    assert same_person(state, view("mei", 25)) < 0.85


def test_a_first_view_that_was_off_is_not_taken_for_the_face() -> None:
    heads = idle_heads("anna")
    state = TurnState()
    wrong = _placed(heads[0]) + np.array([25, -30], np.float32)
    judge_turn(state, face_view(shot(heads[0]), np.asarray(wrong, np.float32)))
    for index in range(1, SETTLED_VIEWS):
        judge_turn(state, face_view(shot(heads[index]), _placed(heads[index])))
    assert same_person(state, face_view(shot(heads[20]), _placed(heads[20]))) > 0.9


def test_a_blink_turns_nobody() -> None:
    heads = idle_heads("anna")
    state = TurnState()
    for index in range(SETTLED_VIEWS):
        judge_turn(state, face_view(shot(heads[index]), _placed(heads[index])))
    # The clip's first blink.
    for index in range(36, 48):
        judge_turn(state, face_view(shot(heads[index]), _placed(heads[index])))
        assert abs(np.degrees(state.yaw)) < 5.0


def test_a_light_that_comes_up_is_learnt_unless_it_may_be_somebody_else() -> None:
    heads = idle_heads("marco")
    state = TurnState()
    for index in range(SETTLED_VIEWS):
        judge_turn(state, face_view(shot(heads[index]), _placed(heads[index])))
    assert state.straight is not None
    view = face_view(shot(heads[10]), _placed(heads[10]))
    shadow = np.hypot(np.arange(72) - 24.0, np.arange(92)[:, None] - 34.0) < 9.0
    view[0] *= 1.0 - 0.6 * cv2.GaussianBlur(shadow.astype(np.float32), (0, 0), 3.0)
    before = state.straight.copy()
    judge_turn(state, view, learn=False)
    assert np.array_equal(state.straight, before)
    alike = []
    for _ in range(6):
        judge_turn(state, view)
        alike.append(state.alike)
    assert alike[-1] > alike[0] + 0.02
    assert abs(np.degrees(state.yaw)) < 5.0
