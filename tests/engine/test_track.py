"""A tracked face moves smoothly with its picture, is lost and found again."""

from __future__ import annotations

import cv2
import numpy as np

from engine.face.detect import DetectedFace, FaceBox
from engine.face.haar import HaarDetector
from engine.face.track import DETECT_EVERY, MISSED_LIMIT, SEARCH_EVERY, FaceTracker
from engine.media import F32, Picture
from tests.photograph import as_picture, moved_portrait, portrait


class CountingDetector:
    """Finds a face at one place while `present`, and counts how often it was asked."""

    def __init__(self) -> None:
        self.present = True
        self.full = 0
        self.near = 0

    parts = 1

    def search(self, picture: Picture, part: int) -> list[DetectedFace]:
        self.full += 1
        return self._faces()

    def search_near(self, picture: Picture, near: FaceBox) -> list[DetectedFace]:
        self.near += 1
        return self._faces()

    def cost(self, picture: Picture, part: int | None) -> int:
        return 100 if part is None else 1000

    def _faces(self) -> list[DetectedFace]:
        points = np.array([[221, 160], [305, 160], [263, 216]], np.float32)
        return [DetectedFace(FaceBox(150, 100, 225), points)] if self.present else []


def test_points_follow_the_head_without_jitter() -> None:
    tracker = FaceTracker(HaarDetector())
    still: list[F32] = []
    for index in range(40):
        luma, motion = moved_portrait(index)
        face = tracker.update(as_picture(luma)).face
        assert face is not None
        back = cv2.invertAffineTransform(motion)
        still.append(face.points @ back[:, :2].T + back[:, 2])
    points = np.stack(still)
    # Undoing the known motion, the points stand still: at most a pixel of drift over the clip,
    # and a fifth of a pixel from one picture to the next.
    assert points.std(axis=0).max() < 1.5
    assert np.abs(np.diff(points, axis=0)).mean() < 0.2


def test_the_detector_is_asked_now_and_then_only() -> None:
    detector = CountingDetector()
    tracker = FaceTracker(detector)
    for _ in range(1 + 5 * DETECT_EVERY):
        assert tracker.update(as_picture(portrait())).face is not None
    assert (detector.full, detector.near) == (1, 5)


def test_without_a_face_the_full_search_is_rationed() -> None:
    detector = CountingDetector()
    detector.present = False
    tracker = FaceTracker(detector)
    for _ in range(1 + 4 * SEARCH_EVERY):
        assert tracker.update(as_picture(portrait())).face is None
    assert detector.full == 5


def test_a_face_that_is_no_longer_detected_loses_confidence_and_is_given_up() -> None:
    detector = CountingDetector()
    tracker = FaceTracker(detector)
    tracker.update(as_picture(portrait()))
    detector.present = False
    confidences = []
    for _ in range(MISSED_LIMIT):
        face = tracker.update(as_picture(portrait())).face
        confidences.append(0.0 if face is None else face.confidence)
    assert confidences[0] == 1.0
    assert sorted(confidences, reverse=True) == confidences
    assert confidences[-2] > 0.0
    assert confidences[-1] == 0.0
    detector.present = True
    assert tracker.update(as_picture(portrait())).face is not None


def test_another_scene_is_a_cut_and_the_first_picture_is_one() -> None:
    tracker = FaceTracker(CountingDetector())
    assert tracker.update(as_picture(portrait())).cut
    assert not tracker.update(as_picture(portrait())).cut
    assert tracker.update(as_picture(255 - portrait())).cut


def test_a_picture_of_another_size_is_a_cut() -> None:
    tracker = FaceTracker(CountingDetector())
    tracker.update(as_picture(portrait()))
    assert tracker.update(as_picture(portrait()[:480])).cut


def test_a_face_covered_by_a_hand_is_not_followed_by_its_flow() -> None:
    detector = CountingDetector()
    tracker = FaceTracker(detector)
    tracker.update(as_picture(portrait()))
    covered = portrait().copy()
    covered[90:340, 140:390] = 90
    detector.present = False
    assert tracker.update(as_picture(covered)).face is None
