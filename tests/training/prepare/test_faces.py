"""Which frames may be learnt from: one large face, wholly there, turned to us and alone."""

from __future__ import annotations

from collections.abc import Sequence

import av
import cv2
import numpy as np
import pytest

from benchmarks.gate_scenes import Placed, compose
from engine.face.align import latentsync_face
from engine.face.haar import HaarDetector
from engine.media import U8
from tests.rendered_heads import idle_heads
from training.prepare.faces import FrameFace, crop_height, follow_faces
from training.prepare.pictures import GridFrame

FACE = latentsync_face(256)


def follow(
    pictures: Sequence[U8],
    shots: Sequence[range] | None = None,
    smallest: float = 60.0,
    stale: range = range(0),
) -> list[FrameFace]:
    frames = [
        GridFrame(index, 0.2 * (index in stale), av.VideoFrame.from_ndarray(picture, "rgb24"))
        for index, picture in enumerate(pictures)
    ]
    whole = [range(len(pictures))]
    cv2.setNumThreads(1)
    return follow_faces(frames, shots or whole, HaarDetector(), FACE, smallest)


def scene(frames: int, *places: tuple[str, float, float]) -> list[U8]:
    """People (name, scale, x) in a picture of 480 x 240."""
    return [
        compose(
            [Placed(idle_heads(name)[index], scale, x, 0.5) for name, scale, x in places], 480, 240
        )
        for index in range(frames)
    ]


def reasons(faces: Sequence[FrameFace]) -> set[str | None]:
    return {face.reason for face in faces}


def test_one_face_can_be_used_from_shortly_after_the_shot_begins() -> None:
    faces = follow(scene(24, ("anna", 0.45, 0.5)))
    usable = [face.reason is None for face in faces]
    assert all(usable[8:])
    points = faces[-1].points
    assert points is not None
    truth = idle_heads("anna")[23].points * 0.45 + [480 * 0.5 - 0.45 * 256, 120 - 0.45 * 256]
    assert np.abs(points - truth).max() < 6.0


def test_of_two_people_neither_can_be_used() -> None:
    faces = follow(scene(24, ("anna", 0.45, 0.3), ("marco", 0.45, 0.72)))
    assert "several faces" in reasons(faces)
    assert None not in reasons(faces)


def test_a_small_face_beside_a_large_one_is_background() -> None:
    faces = follow(scene(24, ("anna", 0.5, 0.35), ("marco", 0.2, 0.85)))
    assert {face.reason for face in faces[8:]} == {None}


def test_a_face_that_is_too_small_is_left_out() -> None:
    faces = follow(scene(16, ("anna", 0.45, 0.5)), smallest=300.0)
    assert "face too small" in reasons(faces)
    assert None not in reasons(faces)


def test_a_chin_below_the_picture_is_left_out() -> None:
    low = [np.roll(picture, 75, axis=0) for picture in scene(16, ("anna", 0.45, 0.5))]
    for picture in low:
        picture[:75] = picture[76]
    assert "face leaves the picture" in reasons(follow(low))


def test_pictures_that_stand_still_are_left_out() -> None:
    faces = follow(scene(24, ("anna", 0.45, 0.5)), stale=range(12, 18))
    assert {face.reason for face in faces[12:18]} == {"no new picture"}
    assert faces[20].reason is None


def test_every_shot_has_a_face_of_its_own() -> None:
    pictures = [*scene(16, ("anna", 0.45, 0.3)), *scene(16, ("marco", 0.45, 0.7))]
    faces = follow(pictures, [range(0, 16), range(16, 32)])
    assert faces[12].reason is None and faces[28].reason is None
    first, second = faces[12].points, faces[28].points
    assert first is not None and second is not None
    assert second[2, 0] - first[2, 0] > 100


def test_an_empty_room_has_no_face() -> None:
    empty = [np.full((240, 480, 3), 110, np.uint8)] * 12
    assert reasons(follow(empty)) <= {"no face", "no face found yet"}


def test_a_crops_height_is_counted_in_the_videos_pixels() -> None:
    points = np.array(FACE.template, np.float32)
    assert crop_height(points, FACE) == pytest.approx(280)
    assert crop_height(points * 2, FACE) == pytest.approx(560)
