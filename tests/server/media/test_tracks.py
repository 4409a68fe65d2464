"""Tracks that playout feeds."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest
from aiortc.mediastreams import MediaStreamError
from av import VideoFrame

from engine.media import Picture
from server.media.av_frames import frame_from_picture, frame_from_sound
from server.media.tracks import SoundOut, VideoOut


def _frame(number: int) -> VideoFrame:
    return frame_from_picture(Picture(np.zeros((24, 16), np.uint8)), number * 1920)


def test_frames_come_out_in_order_as_they_were_released() -> None:
    async def scenario() -> list[int | None]:
        track = VideoOut(0)
        waiting = asyncio.create_task(track.recv())
        await asyncio.sleep(0)
        track.release(_frame(1))
        track.release(_frame(2))
        return [(await waiting).pts, (await track.recv()).pts]

    assert asyncio.run(scenario()) == [3600, 7200]


def test_an_encoder_that_falls_behind_gets_the_newest_frames() -> None:
    async def scenario() -> tuple[list[int | None], int]:
        track = VideoOut(0)
        for number in range(10):
            track.release(_frame(number))
        return [(await track.recv()).pts for _ in range(3)], track.dropped

    assert asyncio.run(scenario()) == ([7 * 3600, 8 * 3600, 9 * 3600], 7)


def test_a_stopped_track_ends_its_reader() -> None:
    async def scenario() -> None:
        track = SoundOut(0)
        waiting = asyncio.create_task(track.recv())
        await asyncio.sleep(0)
        track.stop()
        with pytest.raises(MediaStreamError):
            await waiting
        with pytest.raises(MediaStreamError):
            await track.recv()

    asyncio.run(scenario())


def test_both_tracks_date_the_same_media_time_alike() -> None:
    async def scenario() -> tuple[int, int]:
        epoch = 123 << 32
        return SoundOut(epoch).media_ntp(48_000 * 5), VideoOut(epoch).media_ntp(90_000 * 5)

    sound, video = asyncio.run(scenario())
    assert sound == video == 128 << 32


def test_sound_that_a_stalled_server_owes_is_sent_and_not_dropped() -> None:
    async def scenario() -> tuple[int, int]:
        track = SoundOut(0)
        for number in range(45):  # 0.9 s of it at once
            track.release(frame_from_sound(np.zeros(960, np.int16), 960 * number))
        return (await track.recv()).pts or 0, track.dropped

    assert asyncio.run(scenario()) == (0, 0)
