"""A camera grades pictures and gives a frame its grain."""

from __future__ import annotations

import numpy as np

from training.faces.camera import Camera

PICTURE = np.random.default_rng(0).integers(20, 235, (128, 128, 3)).astype(np.uint8)


def test_a_plain_camera_changes_nothing() -> None:
    camera = Camera.plain()
    grain = camera.grains(1, np.random.default_rng(0))[0]
    np.testing.assert_array_equal(camera.take(PICTURE, grain), PICTURE)


def test_frames_differ_in_grain_and_what_one_frame_shows_shares_it() -> None:
    camera = Camera(Camera.plain().curve, 1.5)
    first, second = camera.grains(2, np.random.default_rng(3))
    assert np.abs(first - second).mean() > 1.0
    difference = camera.take(PICTURE, first).astype(int) - PICTURE
    other = np.full_like(PICTURE, 90)
    assert np.abs(difference - (camera.take(other, first).astype(int) - other)).max() <= 1
