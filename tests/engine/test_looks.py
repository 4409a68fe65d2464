"""Looks stay the same in another light and on another skin, and tell a turn."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.gate_scenes import framed, turned
from engine.face.looks import ROWS, face_looks, likeliest_turn, likeness, most_alike
from engine.face.view import HEIGHT, WIDTH, face_view
from engine.media import F32
from tests.rendered_heads import idle_heads, shot

_LIGHTS = {
    "dark skin, a quarter of the contrast": lambda y, x: 0.25 * y + 20.0,
    "a lamp from the left": lambda y, x: y * (1.1 - 0.8 * x),
    "a lamp from the right, dim": lambda y, x: y * (0.2 + 0.5 * x),
    "another exposure": lambda y, x: 255.0 * (y / 255.0) ** 0.6,
}


def _view(name: str, index: int, yaw_degrees: float = 0.0) -> F32:
    head = turned(idle_heads(name)[index], yaw_degrees)
    return face_view(shot(head, index), framed(head, 640, 480)[1])


def _alike(one: F32, other: F32) -> float:
    return float(np.corrcoef(one.ravel(), other.ravel())[0, 1])


@pytest.mark.parametrize("light", _LIGHTS)
def test_light_and_skin_change_the_luma_more_than_the_looks(light: str) -> None:
    view = _view("marco", 0)
    noise = np.random.default_rng(0).normal(0.0, 1.0, view[0].shape)
    lit = view.copy()
    lit[0] = np.rint(_LIGHTS[light](view[0], np.arange(WIDTH) / WIDTH) + noise)
    assert _alike(face_looks(view), face_looks(lit)) > 0.93
    if "lamp" in light:
        assert _alike(view[0, ROWS], lit[0, ROWS]) < 0.8


def test_a_plain_wall_has_no_looks() -> None:
    noise = np.random.default_rng(0).normal(0.0, 1.0, (3, HEIGHT, WIDTH))
    assert np.abs(face_looks(np.asarray(90.0 + noise, np.float32))).max() < 1.0


@pytest.mark.parametrize("yaw", [-35.0, -15.0, 0.0, 25.0])
def test_the_turn_that_looks_most_alike_is_the_heads(yaw: float) -> None:
    scores = likeness(face_looks(_view("anna", 0)), face_looks(_view("anna", 20, yaw)))
    assert np.degrees(likeliest_turn(scores)) == pytest.approx(yaw, abs=8.0)


def test_of_looks_with_an_outlier_one_of_the_others_is_chosen() -> None:
    looks = [face_looks(_view("mei", index)) for index in (0, 1, 2)]
    chosen = most_alike([face_looks(_view("anna", 0)), *looks])
    assert any(np.array_equal(chosen, each) for each in looks)
