"""Who was enrolled is known again by looks, or by its place where looks allow it."""

from __future__ import annotations

import numpy as np

from benchmarks.gate_scenes import Camera, Placed, compose, framed
from engine.face import enrolled
from engine.face.detect import DetectedFace, FaceBox
from engine.face.enrolled import FORGET, EnrolledState, compare_with_usual, likeness_at
from engine.face.turn import SETTLED_VIEWS, TurnState, judge_turn
from engine.face.view import face_view
from engine.media import F32, Picture
from tests.rendered_heads import idle_heads, shot


def _learnt(name: str) -> TurnState:
    state = TurnState()
    for head in idle_heads(name, 30)[: SETTLED_VIEWS + 1]:
        judge_turn(state, face_view(shot(head), framed(head, 640, 480)[1]))
    return state


def _found(points: F32) -> DetectedFace:
    size = 2.4 * float(np.hypot(*(points[1] - points[0])))
    left, top = points[:2].mean(axis=0) - [size / 2, 0.3 * size]
    return DetectedFace(FaceBox(float(left), float(top), size), points)


def _pair() -> tuple[Picture, DetectedFace, DetectedFace]:
    """A picture of anna on the left and mei on the right, and both faces."""
    placed = [Placed(idle_heads(name, 30)[20], 0.6, x) for name, x in (("anna", 0.3), ("mei", 0.7))]
    picture = Camera().shoot(compose(placed, 640, 480), 0)
    faces = []
    for item in placed:
        corner = np.array([item.x * 640, item.y * 480]) - item.scale * 256
        faces.append(_found(np.asarray(item.head.points * item.scale + corner, np.float32)))
    return picture, faces[0], faces[1]


def test_of_two_faces_the_enrolled_one_has_returned() -> None:
    picture, anna, mei = _pair()
    state = EnrolledState(known=True, away=30)
    assert enrolled.returned(state, _learnt("anna"), picture, [mei, anna]) is anna
    assert not state.guessed
    assert enrolled.returned(state, _learnt("mei"), picture, [anna]) is None
    assert enrolled.returned(EnrolledState(), _learnt("anna"), picture, [anna]) is None


def test_what_comes_back_to_its_place_at_once_is_a_guess_if_looks_allow_it() -> None:
    picture, anna, _ = _pair()
    turn = _learnt("mei")
    assert 0.5 < likeness_at(picture, anna.points, turn) < 0.84
    state = EnrolledState(known=True, away=5, last_box=anna.box)
    assert enrolled.returned(state, turn, picture, [anna]) is anna
    assert state.guessed
    wall = DetectedFace(anna.box, anna.points + np.array([0.0, 90.0], np.float32))
    assert likeness_at(picture, wall.points, turn) < 0.5
    assert enrolled.returned(state, turn, picture, [wall]) is None


def test_of_faces_nearby_looks_decide_where_places_are_alike() -> None:
    picture, anna, mei = _pair()
    (x, y), size = anna.box.centre, anna.box.size
    between = FaceBox((x + mei.box.centre[0] - size) / 2, y - size / 2, size)
    assert enrolled.nearest(between, _learnt("anna"), picture, [mei, anna]) is anna
    assert enrolled.nearest(between, _learnt("mei"), picture, [mei, anna]) is mei
    assert enrolled.nearest(between, _learnt("mei"), picture, []) is None


def test_points_that_fell_together_look_like_nobody() -> None:
    picture, anna, _ = _pair()
    assert likeness_at(picture, anna.points * 0.0, _learnt("anna")) == 0.0


def test_three_strange_searches_raise_doubt_and_five_end_it() -> None:
    state = EnrolledState(known=True)
    ended = [compare_with_usual(state, 0.5) for _ in range(2)]
    assert not state.doubtful
    ended += [compare_with_usual(state, 0.5) for _ in range(3)]
    assert state.doubtful
    assert ended == [False] * 4 + [True]


def test_a_blink_and_a_light_that_changes_the_looks_a_little_are_no_stranger() -> None:
    state = EnrolledState(known=True)
    for alike in (0.97, 0.7, 0.96, 0.85, 0.84, 0.83, 0.82):
        assert not compare_with_usual(state, alike)
    assert state.strange == 0
    assert state.usual < 1.0


def test_a_guess_is_held_to_more_than_a_face_that_is_known() -> None:
    known, guessed = EnrolledState(known=True), EnrolledState(known=True, guessed=True)
    for state in (known, guessed):
        for _ in range(3):
            compare_with_usual(state, 0.8)
    assert guessed.doubtful and not known.doubtful
    compare_with_usual(guessed, 0.9)
    assert not guessed.guessed and not guessed.doubtful


def test_who_was_replaced_leaves_its_place_and_half_of_its_time() -> None:
    box = FaceBox(10, 20, 100)
    lost, replaced = EnrolledState(known=True), EnrolledState(known=True)
    enrolled.leave(lost, box)
    enrolled.leave(replaced, box, replaced=True)
    assert (lost.last_box, lost.away) == (box, 0)
    assert replaced.last_box is None and 0 < replaced.away < FORGET
    assert not replaced.replaceable
    replaced.away = FORGET
    assert replaced.replaceable
