"""Optical flow takes a face along, and says when it can't."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from engine.face import flow
from engine.face.detect import FaceBox
from engine.face.flow import FlowState
from engine.media import U8

_BOX = FaceBox(100, 80, 160)


def _pattern(seed: int = 0, height: int = 360) -> U8:
    coarse = np.random.default_rng(seed).integers(30, 220, (height // 8, 60)).astype(np.uint8)
    picture = cv2.resize(coarse, (480, height), interpolation=cv2.INTER_CUBIC)
    return np.asarray(picture, np.uint8)


def _moved(picture: U8, right: float, down: float, growth: float = 1.0) -> U8:
    motion = np.array([[growth, 0.0, right], [0.0, growth, down]])
    size = picture.shape[1], picture.shape[0]
    return np.asarray(cv2.warpAffine(picture, motion, size), np.uint8)


def _seeded(picture: U8, box: FaceBox = _BOX) -> FlowState:
    state = FlowState()
    flow.show(state, picture)
    flow.seed(state, box)
    return state


def test_points_and_box_move_with_the_picture() -> None:
    picture = _pattern()
    movement = flow.follow(_seeded(picture), _moved(picture, 3.5, -2.0, 1.02))
    assert movement is not None
    points = np.array([[150, 120], [200, 120], [175, 160]], np.float32)
    assert movement.moved(points) == pytest.approx(points * 1.02 + [3.5, -2.0], abs=0.3)
    x, y = _BOX.centre
    assert movement.moved_box(_BOX).centre == pytest.approx((1.02 * x + 3.5, 1.02 * y - 2), abs=0.3)
    assert movement.growth == pytest.approx(1.02, abs=0.003)


def test_a_large_picture_is_followed_in_its_own_pixels() -> None:
    picture = _pattern(height=720)
    state = _seeded(picture, FaceBox(100, 160, 300))
    movement = flow.follow(state, _moved(picture, 6.0, 4.0))
    assert movement is not None and state.scale == 0.5
    assert movement.shift == pytest.approx([6.0, 4.0], abs=0.5)
    assert movement.before[:, 1].max() > 180.0


def test_a_part_that_moves_on_its_own_is_left_out() -> None:
    picture = _pattern()
    state = _seeded(picture)
    after = _moved(picture, 1.0, 0.0)
    after[80:130, 100:160] = _moved(picture, 7.0, 5.0)[80:130, 100:160]
    movement = flow.follow(state, after)
    assert movement is not None
    assert np.abs(movement.after - movement.before - [1.0, 0.0]).max() < 3.5


def test_another_picture_is_not_followed_and_a_plain_one_has_no_points() -> None:
    state = _seeded(_pattern())
    assert flow.follow(state, _pattern(seed=5)) is None
    plain = _seeded(np.full((360, 480), 90, np.uint8))
    assert flow.sparse(plain)
    assert flow.follow(plain, np.full((360, 480), 90, np.uint8)) is None
