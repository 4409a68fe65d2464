"""Three points to an affine, with and without memory."""

from __future__ import annotations

import numpy as np
import pytest

from engine.errors import VideoFormatError
from engine.face.align import F64, SmoothingState, align_affine, latentsync_face
from engine.spec import LATENTSYNC_FACE_256, FaceSpec

SQUARE = FaceSpec(
    template=((15.4, -33.2), (112.6, -33.2), (64.0, 14.2)), crop_width=128, crop_height=128
)
NOSE_MOVED = np.array([[0, 0], [0, 0], [6, 2]], np.float32)
POINTS = np.array([[300.0, 200.0], [380.0, 210.0], [335.0, 250.0]], np.float32)


@pytest.mark.parametrize("face", [SQUARE, latentsync_face(256)])
def test_moved_template_points_come_back_exactly(face: FaceSpec) -> None:
    angle, scale = 0.3, 1.7
    turn = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    template = np.array(face.template)
    affine = align_affine(template @ turn.T + [40.0, -12.0], face)
    points = template @ turn.T + [40.0, -12.0]
    assert np.allclose(points @ affine[:, :2].T + affine[:, 2], template, atol=1e-3)


def test_the_affine_is_a_similarity() -> None:
    affine = align_affine(POINTS, SQUARE)
    assert affine[0, 0] == pytest.approx(affine[1, 1])
    assert affine[0, 1] == pytest.approx(-affine[1, 0])


def test_smoothing_belongs_to_its_own_state() -> None:
    moved = POINTS + NOSE_MOVED
    first, second = SmoothingState(), SmoothingState()
    align_affine(moved, SQUARE, first)
    after_another_face = align_affine(POINTS, SQUARE, first)
    fresh = align_affine(POINTS, SQUARE, second)
    assert not np.array_equal(after_another_face, fresh)
    first.reset()
    assert np.array_equal(align_affine(POINTS, SQUARE, first), fresh)


def test_smoothing_settles_on_a_still_face() -> None:
    state = SmoothingState()
    align_affine(POINTS + NOSE_MOVED, SQUARE, state)
    settled = [align_affine(POINTS, SQUARE, state) for _ in range(8)][-1]
    assert np.allclose(settled, align_affine(POINTS, SQUARE, SmoothingState()), atol=1e-4)


def test_the_stored_spec_is_the_computed_one() -> None:
    computed = latentsync_face(256)
    assert (computed.crop_width, computed.crop_height) == (210, 280)
    assert np.allclose(computed.template, LATENTSYNC_FACE_256.template)
    other = latentsync_face(512)
    assert (other.crop_width, other.crop_height) == (420, 560)


@pytest.mark.parametrize(
    "points", [np.zeros((3, 2)), np.full((3, 2), np.nan), np.zeros((5, 2)), np.ones((3, 2))]
)
def test_points_that_are_no_face_are_refused(points: F64) -> None:
    with pytest.raises(VideoFormatError, match="expected three different finite points"):
        align_affine(points, SQUARE)
