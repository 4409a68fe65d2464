"""What is before a mouth closes the gate; light and noise do not."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from benchmarks.gate_scenes import OCCLUDERS, Camera, Occluder, covered, framed
from engine.face.haar import HaarDetector
from engine.face.occlusion import OcclusionState, judge_cover
from engine.face.track import FaceTracker
from engine.face.tracked import Tracked
from engine.face.view import HEIGHT, WIDTH
from engine.media import F32
from tests.rendered_heads import idle_heads

_IN, _OUT = 22, 36


def _played(kind: Occluder, name: str = "marco") -> list[Tracked]:
    tracker = FaceTracker(HaarDetector())
    answers = []
    for index, head in enumerate(idle_heads(name, 50)):
        share = np.interp(index, [_IN - 6, _IN, _OUT, _OUT + 6], [0.0, 1.0, 1.0, 0.0])
        rgb, _ = framed(covered(head, kind, float(share)), 640, 480)
        answers.append(tracker.update(Camera().shoot(rgb, index)))
    return answers


_QUICK: tuple[Occluder, ...] = ("bare hand", "microphone")


@pytest.mark.parametrize(
    "kind",
    [kind if kind in _QUICK else pytest.param(kind, marks=pytest.mark.slow) for kind in OCCLUDERS],
)
def test_what_covers_the_mouth_closes_the_gate_and_its_going_opens_it(kind: Occluder) -> None:
    answers = _played(kind)
    reasons = [answer.closed for answer in answers]
    assert reasons[: _IN - 6] == [None] * (_IN - 6)
    assert all(reason == "occluded" for reason in reasons[_IN + 3 : _OUT])
    assert reasons[_OUT + 6 + 5 :] == [None] * (50 - _OUT - 11)
    assert all(answer.face is not None for answer in answers)


def _camera(index: int) -> Camera:
    swing = float(np.sin(index / 6))
    return Camera(5.0, 1.0, 30, 1.0 + 0.25 * swing, (1.0 + 0.08 * swing, 1.0, 1.0 - 0.08 * swing))


def test_exposure_white_balance_noise_and_blur_close_nothing() -> None:
    tracker = FaceTracker(HaarDetector())
    for index, head in enumerate(idle_heads("anna", 60)):
        rgb, _ = framed(head, 640, 480)
        assert tracker.update(_camera(index).shoot(rgb, index)).closed is None


def _view(level: float, cover: float | None = None, mouth: float = 0.0) -> F32:
    """A face of one shade with darker lips, opened by `mouth`, its lower half covered perhaps."""
    view = np.full((3, HEIGHT, WIDTH), 128.0, np.float32)
    view[0] = level
    view[2] = 150.0
    opened = int(3 + 9 * mouth)
    view[0, 62 : 62 + opened, 26:46] = 0.4 * level
    view[2, 62 : 62 + opened, 26:46] = 165.0
    if cover is not None:
        view[0, 50:, :] = cover
        view[1:, 50:, :] = 128.0
    return view


def _judged(views: Sequence[F32]) -> list[bool]:
    state = OcclusionState()
    return [judge_cover(state, view, 0.0) for view in views]


def test_a_mouth_that_opens_and_a_light_that_fades_are_no_cover() -> None:
    talking = [_view(150.0, mouth=0.5 + 0.5 * float(np.sin(index))) for index in range(60)]
    fading = [_view(150.0 - index, mouth=0.5) for index in range(60)]
    assert not any(_judged(talking + fading))


def test_a_mouth_that_opens_wide_after_a_pause_is_no_cover_unless_it_stays() -> None:
    pause = [_view(150.0, mouth=0.1 * (index % 2)) for index in range(150)]
    wide = _view(150.0, mouth=1.9)
    assert not any(_judged(pause + [wide] * 4 + pause[:20]))
    assert any(_judged(pause + [wide] * 12))


@pytest.mark.parametrize("level", [150.0, 40.0])
def test_a_cover_is_seen_within_80_ms_on_light_and_on_dark_skin(level: float) -> None:
    plain = [_view(level, mouth=0.1 * (index % 2)) for index in range(60)]
    answers = _judged(plain + [_view(level, cover=0.75 * level)] * 3)
    assert answers == [False] * 61 + [True] * 2


def test_a_cover_that_stays_still_for_15_s_is_taken_for_a_part_of_the_face() -> None:
    plain = [_view(150.0)] * 20
    answers = _judged(plain + [_view(150.0, cover=60.0)] * 420)
    assert all(answers[25:375])
    assert not any(answers[-20:])


def test_a_cover_that_moves_stays_one() -> None:
    plain = [_view(150.0)] * 20
    moving = [_view(150.0, cover=50.0 + 20.0 * (index % 2)) for index in range(420)]
    assert all(_judged(plain + moving)[25:])


def test_a_reset_forgets_the_face() -> None:
    state = OcclusionState()
    for view in [_view(150.0)] * 20 + [_view(150.0, cover=60.0)] * 4:
        judge_cover(state, view, 0.0)
    assert state.covered
    state.reset()
    assert state == OcclusionState()
