"""A camera's pictures land on the frame grid, whatever their times."""

from __future__ import annotations

import numpy as np
import pytest

from engine.camera import QUEUE_PICTURES, CameraSource
from engine.errors import StreamError
from engine.face.detect import DetectedFace, FaceBox
from engine.face.track import FaceTracker
from engine.media import FRAME_SAMPLES, Picture
from tests.fakes import FAKE_SPEC, grey_picture


class NoFaces:
    parts = 1

    def search(self, picture: Picture, part: int) -> list[DetectedFace]:
        return []

    def search_near(self, picture: Picture, near: FaceBox) -> list[DetectedFace]:
        return []

    def cost(self, picture: Picture, part: int | None) -> int:
        return 1


def _camera(*, realtime: bool = False) -> CameraSource:
    return CameraSource(FAKE_SPEC, FaceTracker(NoFaces()), realtime=realtime)


def _levels(camera: CameraSource, frames: range) -> list[int]:
    return [int(source.picture.i420[0, 0]) for source in camera.take(frames)]


def test_each_frame_shows_the_picture_nearest_to_its_start() -> None:
    camera = _camera()
    for level, pts in enumerate([0, 500, 1500, 1920, 3200]):
        camera.push(grey_picture(level), pts)
    # Starts 0, 640, 1280, 1920, 2560, 3200: nothing new comes for frame 4.
    assert _levels(camera, range(6)) == [0, 1, 2, 3, 3, 4]


def test_a_faster_camera_loses_pictures_and_a_slower_one_repeats_them() -> None:
    fast, slow = _camera(), _camera()
    for index in range(13):
        fast.push(grey_picture(index), index * FRAME_SAMPLES // 2)
        slow.push(grey_picture(index), index * FRAME_SAMPLES * 2)
    assert _levels(fast, range(6)) == [0, 2, 4, 6, 8, 10]
    assert _levels(slow, range(6)) == [0, 0, 1, 1, 2, 2]


def test_the_stream_begins_with_the_first_picture() -> None:
    camera = _camera()
    assert camera.start_frame() is None
    assert not camera.ready(range(1))
    camera.push(grey_picture(7), 10 * FRAME_SAMPLES + 400)
    assert camera.start_frame() == 10
    assert _levels(camera, range(10, 12)) == [7, 7]


def test_offline_frames_wait_for_their_pictures_and_in_real_time_they_do_not() -> None:
    offline, live = _camera(), _camera(realtime=True)
    for camera in (offline, live):
        camera.push(grey_picture(0), 0)
    assert not offline.ready(range(4))
    assert live.ready(range(4))
    offline.push(grey_picture(3), 3 * FRAME_SAMPLES)
    assert offline.ready(range(4))
    offline.end()
    assert offline.ready(range(100))


def test_waiting_pictures_are_bounded() -> None:
    offline, live = _camera(), _camera(realtime=True)
    for index in range(QUEUE_PICTURES):
        offline.push(grey_picture(1), index)
    with pytest.raises(StreamError, match="pictures to wait"):
        offline.push(grey_picture(1), QUEUE_PICTURES)
    for index in range(3 * QUEUE_PICTURES):
        live.push(grey_picture(index), index * FRAME_SAMPLES)
    assert _levels(live, range(3 * QUEUE_PICTURES - 1, 3 * QUEUE_PICTURES)) == [191]


def test_pictures_out_of_order_are_ignored() -> None:
    camera = _camera()
    camera.push(grey_picture(1), 640)
    camera.push(grey_picture(2), 0)
    camera.push(grey_picture(3), 640)
    assert _levels(camera, range(1, 2)) == [1]


def test_a_repeated_picture_is_not_tracked_again_and_is_no_cut() -> None:
    camera = _camera()
    camera.push(grey_picture(1), 0)
    sources = camera.take(range(3))
    assert [source.cut for source in sources] == [True, False, False]
    assert all(source.affine is None for source in sources)
    assert np.array_equal(sources[0].picture.i420, sources[2].picture.i420)
