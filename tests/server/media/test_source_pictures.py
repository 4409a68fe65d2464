"""What a call shows in the places that the engine leaves empty."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

import numpy as np
import pytest

from engine.avatar import load_avatar, loop_index
from engine.media import Picture
from server.avatars.library import AvatarLibrary
from server.media.av_frames import frame_from_picture
from server.media.media_clock import FRAME_TICKS
from server.media.source_pictures import CameraPictures, ClipPictures, Clips, half_way
from tests.server_fakes import make_avatar


def _picture(level: int, width: int = 64) -> Picture:
    return Picture(np.full((72, width), level, np.uint8))


def test_a_clip_shows_the_frame_that_the_engine_would(tmp_path: Path) -> None:
    make_avatar(tmp_path, frames=5)
    clip = ClipPictures(AvatarLibrary([tmp_path]).get("ada"))
    assert clip.at(0) is None  # not read yet
    clip.decode()
    avatar = load_avatar(tmp_path / "ada")
    for frame in range(23):
        shown = clip.at(frame * FRAME_TICKS)
        own = avatar.pictures[loop_index(frame, 5, avatar.loop)]
        assert shown is not None and np.array_equal(shown.i420, own.i420)
        assert np.array_equal(frame_from_picture(shown, 0).to_ndarray(), own.i420)


def test_a_clip_that_cannot_be_read_is_logged_and_shows_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    make_avatar(tmp_path)
    (tmp_path / "ada" / "clip.mp4").write_bytes(b"not a video")
    clip = ClipPictures(AvatarLibrary([tmp_path]).get("ada"))
    with caplog.at_level(logging.WARNING):
        clip.decode()
    assert clip.at(0) is None
    assert "avatar ada" in caplog.text


def test_a_clip_is_decoded_once_for_all_calls_and_again_when_it_is_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_avatar(tmp_path)
    decoded: list[ClipPictures] = []
    monkeypatch.setattr(ClipPictures, "decode", lambda clip: decoded.append(clip))
    info = AvatarLibrary([tmp_path]).get("ada")

    async def scenario() -> None:
        clips = Clips()
        first = clips.open(info)
        assert clips.open(info) is first
        (tmp_path / "ada" / "avatar.json").touch()
        assert clips.open(info) is not first
        await asyncio.get_running_loop().shutdown_default_executor()

    asyncio.run(scenario())
    assert len(decoded) == 2


def test_a_camera_shows_what_it_saw_at_the_place() -> None:
    camera = CameraPictures()
    assert camera.at(0) is None
    for frame in range(40):
        camera.push(_picture(frame), frame * FRAME_TICKS)
    for pts, level in ((30 * FRAME_TICKS, 30), (31 * FRAME_TICKS - 100, 31), (10**7, 39)):
        shown = camera.at(pts)
        assert shown is not None and shown.i420[0, 0] == level
    oldest = camera.at(0)
    assert oldest is not None and oldest.i420[0, 0] == 16, "rather another than none"


def test_half_way_lies_between_two_pictures_and_is_the_second_of_another_size() -> None:
    assert half_way(_picture(10), _picture(20)).i420[0, 0] == 15
    assert half_way(_picture(10, 32), _picture(20)).i420[0, 0] == 20
