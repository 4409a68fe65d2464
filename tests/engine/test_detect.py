"""OpenCV's cascades find the face of a photograph and its three points."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from engine.face.detect import HaarDetector
from tests.photograph import BROWS, NOSE, portrait


@pytest.fixture(scope="module")
def detector() -> HaarDetector:
    return HaarDetector()


@pytest.mark.parametrize("scale", [0.7, 1.0, 1.6])
def test_the_points_of_a_photograph_are_found_at_any_size(
    detector: HaarDetector, scale: float
) -> None:
    luma = np.asarray(cv2.resize(portrait(), None, fx=scale, fy=scale), np.uint8)
    face = detector.find(luma)
    assert face is not None
    expected = np.array([*BROWS, NOSE]) * scale
    assert np.abs(face.points - expected).max() < 14 * scale


def test_a_search_near_the_face_agrees_with_the_full_one(detector: HaarDetector) -> None:
    full = detector.find(portrait())
    assert full is not None
    near = detector.find(portrait(), full.box)
    assert near is not None
    assert np.abs(near.points - full.points).max() < 6


def test_a_picture_without_a_face_has_none(detector: HaarDetector) -> None:
    grey = np.full((240, 320), 128, np.uint8)
    face = detector.find(portrait())
    assert face is not None
    assert detector.find(grey) is None
    assert detector.find(grey, face.box) is None


def test_a_face_that_left_the_picture_is_not_found_near(detector: HaarDetector) -> None:
    face = detector.find(portrait())
    assert face is not None
    assert detector.find(portrait()[:150, :200], face.box) is None
