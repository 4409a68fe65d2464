"""A tracked face moves smoothly with its picture, is lost and found again."""

from __future__ import annotations

import cv2
import numpy as np

from engine.face.budget import DetectorBudget
from engine.face.detect import DetectedFace, FaceBox
from engine.face.enrolled import FORGET
from engine.face.haar import HaarDetector
from engine.face.track import (
    DETECT_EVERY,
    DOUBT_EVERY,
    SEARCH_EVERY,
    FaceTracker,
)
from engine.face.tracked import Tracked
from engine.face.turn import SETTLED_VIEWS
from engine.face.verdict import MISSED_LIMIT
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
    # More often at first, until the face is known.
    settling = (SETTLED_VIEWS - 1) * DOUBT_EVERY
    for _ in range(1 + settling + 5 * DETECT_EVERY):
        assert tracker.update(as_picture(portrait())).face is not None
    assert (detector.full, detector.near) == (1, SETTLED_VIEWS - 1 + 5)


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
    for _ in range(1 + (SETTLED_VIEWS - 1) * DOUBT_EVERY):
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


def test_a_lesser_change_is_a_cut_where_the_flow_loses_the_face() -> None:
    tracker = FaceTracker(CountingDetector())
    tracker.update(as_picture(portrait()))
    assert not tracker.update(as_picture(portrait())).cut
    scrambled = portrait().copy()
    scrambled[80:360, 130:400] = np.random.default_rng(0).integers(100, 255, (280, 270))
    small = [cv2.resize(p, (32, 24), interpolation=cv2.INTER_AREA) for p in (scrambled, portrait())]
    assert 12.0 < np.abs(small[0].astype(float) - small[1]).mean() < 28.0
    assert tracker.update(as_picture(scrambled)).cut


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


class Crowd:
    """Two faces at places that the test moves; the picture shows a patch of each."""

    parts = 1

    def __init__(self) -> None:
        self.boxes: dict[str, FaceBox] = {}
        patches = np.random.default_rng(3).integers(40, 216, (2, 12, 12)).astype(np.uint8)
        self._patches = dict(zip(("first", "second"), patches, strict=True))

    def picture(self) -> Picture:
        luma = np.full((480, 640), 120, np.uint8)
        for name, box in sorted(self.boxes.items(), key=lambda item: item[1].size):
            left, top, size = int(box.left), int(box.top), int(box.size)
            patch = cv2.resize(self._patches[name], (size, size), interpolation=cv2.INTER_CUBIC)
            luma[top : top + size, left : left + size] = patch
        return as_picture(luma)

    def search(self, picture: Picture, part: int) -> list[DetectedFace]:
        faces = [self._face(box) for box in self.boxes.values()]
        return sorted(faces, key=lambda face: -face.box.size)

    def search_near(self, picture: Picture, near: FaceBox) -> list[DetectedFace]:
        faces = [self._face(box) for box in self.boxes.values() if near.distance(box) < 0.6]
        return sorted(faces, key=lambda face: near.distance(face.box))

    def cost(self, picture: Picture, part: int | None) -> int:
        return 1000

    def _face(self, box: FaceBox) -> DetectedFace:
        unit = box.size / 89.0
        x, y = box.left + box.size / 2, box.top + 0.25 * box.size
        places = [[x - 18.6 * unit, y], [x + 18.6 * unit, y], [x, y + 25 * unit]]
        return DetectedFace(box, np.array(places, np.float32))


def _follows(answer: Tracked, box: FaceBox) -> bool:
    assert answer.face is not None
    return abs(float(answer.face.points[2, 0]) - box.centre[0]) < 0.1 * box.size


def test_the_enrolled_face_is_followed_when_a_larger_one_appears() -> None:
    crowd = Crowd()
    crowd.boxes["first"] = FaceBox(60, 160, 120)
    tracker = FaceTracker(crowd)
    for index in range(60):
        crowd.boxes["first"] = FaceBox(60 + index, 160, 120)
        if index >= 15:
            crowd.boxes["second"] = FaceBox(380, 100, 240)
        answer = tracker.update(crowd.picture())
        assert _follows(answer, crowd.boxes["first"])
        assert answer.closed is None
        assert not answer.stranger


def test_when_two_faces_are_near_place_and_looks_decide() -> None:
    crowd = Crowd()
    crowd.boxes["first"] = FaceBox(200, 160, 120)
    tracker = FaceTracker(crowd)
    for index in range(60):
        crowd.boxes["second"] = FaceBox(500 - 3 * index, 170, 120)
        assert _follows(tracker.update(crowd.picture()), crowd.boxes["first"])


def test_after_two_seconds_the_other_face_is_enrolled_as_a_stranger() -> None:
    crowd = Crowd()
    crowd.boxes = {"first": FaceBox(80, 140, 160), "second": FaceBox(400, 180, 120)}
    tracker = FaceTracker(crowd)
    for _ in range(10):
        assert _follows(tracker.update(crowd.picture()), crowd.boxes["first"])
    del crowd.boxes["first"]
    answers = [tracker.update(crowd.picture()) for _ in range(FORGET + 3 * SEARCH_EVERY)]
    lost = next(index for index, answer in enumerate(answers) if answer.face is None)
    strangers = [index for index, answer in enumerate(answers) if answer.stranger]
    assert {answer.closed for answer in answers[lost : strangers[0]]} == {"no_face"}
    assert len(strangers) == 1
    assert FORGET - 1 <= strangers[0] - lost <= FORGET + SEARCH_EVERY
    assert _follows(answers[-1], crowd.boxes["second"])
    assert answers[-1].closed is None


def test_who_comes_back_within_two_seconds_is_no_stranger() -> None:
    crowd = Crowd()
    first, second = FaceBox(80, 140, 160), FaceBox(400, 180, 120)
    crowd.boxes = {"first": first, "second": second}
    tracker = FaceTracker(crowd)
    for _ in range(10):
        tracker.update(crowd.picture())
    del crowd.boxes["first"]
    away = [tracker.update(crowd.picture()) for _ in range(25)]
    assert away[-1].face is None
    crowd.boxes["first"] = FaceBox(120, 120, 160)
    back = [tracker.update(crowd.picture()) for _ in range(SEARCH_EVERY + 1)]
    assert _follows(back[-1], crowd.boxes["first"])
    assert not any(answer.stranger for answer in away + back)


def test_after_a_cut_the_reason_is_the_cut_until_the_scene_was_searched() -> None:
    detector = CountingDetector()
    detector.parts = 3
    detector.present = False
    tracker = FaceTracker(detector)
    reasons = [tracker.update(as_picture(portrait())).closed for _ in range(5)]
    assert reasons == ["cut", "cut", "no_face", "no_face", "no_face"]


def test_a_tracker_that_the_budget_refuses_coasts_on_flow() -> None:
    detector, budget = CountingDetector(), DetectorBudget(10)
    tracker = FaceTracker(detector, budget)
    answers = [tracker.update(as_picture(portrait())) for _ in range(60)]
    assert all(answer.face is not None for answer in answers)
    # The full search put the account into debt for a hundred pictures.
    assert (detector.full, detector.near) == (1, 0)
    assert budget.refused > 0
