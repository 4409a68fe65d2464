"""The gate on a photograph of a person with glasses, whose eyes the cascade seldom finds."""

from __future__ import annotations

import functools
from collections.abc import Callable

import cv2
import numpy as np
import pytest

from benchmarks.gate_scenes import Camera, Head, covered, framed, turned
from engine.face.haar import HaarDetector
from engine.face.track import FaceTracker
from engine.gate import FaceClosed
from tests.photograph import BROWS, NOSE, portrait_rgb

_FRAMES, _FROM, _TO = 95, 40, 60


@functools.cache
def _moving(index: int) -> Head:
    motion = cv2.getRotationMatrix2D(
        (265, 210), 4 * np.sin(index / 13), 1 + 0.05 * np.sin(index / 17)
    )
    motion[:, 2] += [15 * np.sin(index / 11), 6 * np.sin(index / 7)]
    picture = cv2.warpAffine(
        portrait_rgb()[:512], motion, (512, 512), borderMode=cv2.BORDER_REPLICATE
    )
    points = np.array([*BROWS, NOSE]) @ motion[:, :2].T + motion[:, 2]
    return Head(np.asarray(picture, np.uint8), np.asarray(points, np.float32))


def _reasons(change: Callable[[Head, float], Head]) -> list[FaceClosed | None]:
    """The gate while `change` comes in over ten pictures, stays and goes."""
    tracker = FaceTracker(HaarDetector())
    reasons = []
    for index in range(_FRAMES):
        share = float(np.interp(index, [_FROM - 10, _FROM, _TO, _TO + 10], [0.0, 1.0, 1.0, 0.0]))
        rgb, _ = framed(change(_moving(index), share), 640, 480)
        reasons.append(tracker.update(Camera().shoot(rgb, index)).closed)
    return reasons


@pytest.mark.parametrize(
    ("reason", "change"),
    [
        ("occluded", lambda head, share: covered(head, "cup", share)),
        pytest.param(
            "occluded",
            lambda head, share: covered(head, "bare hand", share),
            marks=pytest.mark.slow,
        ),
        ("profile", lambda head, share: turned(head, 55.0 * share)),
    ],
    ids=["cup", "hand", "turn"],
)
def test_it_closes_within_400_ms_and_opens_within_400_ms(
    reason: FaceClosed, change: Callable[[Head, float], Head]
) -> None:
    reasons = _reasons(change)
    assert reasons[: _FROM - 10] == [None] * (_FROM - 10)
    assert set(reasons[_FROM + 5 : _TO]) == {reason}
    assert reasons[_TO + 20 :] == [None] * (_FRAMES - _TO - 20)


def test_a_moving_photograph_stays_open() -> None:
    assert _reasons(lambda head, share: head) == [None] * _FRAMES
