"""OpenCV's cascades find the face of a photograph and its three points."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from engine.face.detect import DetectedFace, open_detector
from engine.face.haar import HaarDetector
from engine.media import Picture
from tests.photograph import BROWS, NOSE, as_picture, portrait


@pytest.fixture(scope="module")
def detector() -> HaarDetector:
    return HaarDetector()


def _find(detector: HaarDetector, picture: Picture) -> DetectedFace | None:
    for part in range(detector.parts):
        if faces := detector.search(picture, part):
            return faces[0]
    return None


@pytest.mark.parametrize("scale", [0.7, 1.0, 1.6])
def test_the_points_of_a_photograph_are_found_at_any_size(
    detector: HaarDetector, scale: float
) -> None:
    luma = np.asarray(cv2.resize(portrait(), None, fx=scale, fy=scale), np.uint8)
    luma = luma[: luma.shape[0] // 2 * 2, : luma.shape[1] // 2 * 2]
    face = _find(detector, as_picture(luma))
    assert face is not None
    expected = np.array([*BROWS, NOSE]) * scale
    assert np.abs(face.points - expected).max() < 14 * scale


def test_a_search_near_the_face_agrees_with_the_full_one(detector: HaarDetector) -> None:
    picture = as_picture(portrait())
    full = _find(detector, picture)
    assert full is not None
    near = detector.search_near(picture, full.box)
    assert np.abs(near[0].points - full.points).max() < 6


def test_a_picture_without_a_face_has_none(detector: HaarDetector) -> None:
    grey = as_picture(np.full((240, 320), 128, np.uint8))
    face = _find(detector, as_picture(portrait()))
    assert face is not None
    assert _find(detector, grey) is None
    assert detector.search_near(grey, face.box) == []


def test_a_face_that_left_the_picture_is_not_found_near(detector: HaarDetector) -> None:
    face = _find(detector, as_picture(portrait()))
    assert face is not None
    assert detector.search_near(as_picture(portrait()[:150, :200]), face.box) == []


def test_large_faces_come_in_the_first_part_and_small_ones_in_a_later(
    detector: HaarDetector,
) -> None:
    small = np.full((1000, 1400), 110, np.uint8)
    photograph = portrait()[:500]
    small[200:700, 300:812] = photograph
    assert len(detector.search(as_picture(photograph), 0)) == 1
    assert detector.search(as_picture(small), 0) == []
    assert _find(detector, as_picture(small)) is not None


def test_a_search_near_a_face_costs_less_than_a_full_one_and_parts_cost_alike(
    detector: HaarDetector,
) -> None:
    picture = as_picture(np.zeros((480, 640), np.uint8))
    parts = [detector.cost(picture, part) for part in range(detector.parts)]
    assert detector.cost(picture, None) < sum(parts)
    assert max(parts) < 0.6 * sum(parts)


def test_without_a_model_folder_the_cascades_are_opened() -> None:
    assert isinstance(open_detector(), HaarDetector)
