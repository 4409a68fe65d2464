"""What a call sends: samples at the speed of sound, and pictures from any source."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import pytest
from aiortc import MediaStreamTrack
from aiortc.mediastreams import MediaStreamError
from av import VideoFrame

from engine.errors import AudioFormatError, VideoFormatError
from server.client.capture import I16, U8, Microphone, open_camera
from server.media.media_clock import SOUND_TICKS
from tests.server_fakes import make_avatar


async def captured(microphone: Microphone, packets: int) -> I16:
    parts = [(await microphone.recv()).to_ndarray().reshape(-1) for _ in range(packets)]
    return np.concatenate(parts).astype(np.int16)


async def mean_of(camera: MediaStreamTrack) -> float:
    frame = await camera.recv()
    assert isinstance(frame, VideoFrame)
    return float(frame.to_ndarray(format="gray").mean())


def test_what_is_said_leaves_in_order_with_silence_around_it() -> None:
    async def main() -> None:
        microphone = Microphone(np.full(700, 1, np.int16))
        said = asyncio.gather(
            microphone.say(np.full(500, 2, np.int16)), microphone.say(np.full(1000, 3, np.int16))
        )
        await asyncio.sleep(0)
        heard = await captured(microphone, 3)
        assert all(await said)
        numbers, counts = np.unique(heard, return_counts=True)
        assert dict(zip(numbers, counts, strict=True)) == {0: 680, 1: 700, 2: 500, 3: 1000}
        assert (np.diff(heard[:2200]) >= 0).all(), "in order"

    asyncio.run(main())


def test_what_is_dropped_is_told_to_who_said_it() -> None:
    async def main() -> None:
        microphone = Microphone()
        said = asyncio.create_task(microphone.say(np.full(48_000, 5, np.int16)))
        await asyncio.sleep(0)
        assert (await captured(microphone, 2) == 5).all()
        microphone.drop()
        assert not await said
        assert not (await captured(microphone, 1)).any()
        microphone.stop()
        with pytest.raises(MediaStreamError):
            await microphone.recv()

    asyncio.run(main())


def test_a_microphone_that_was_held_leaves_the_pause_out() -> None:
    async def main() -> None:
        microphone = Microphone()
        await captured(microphone, 2)
        assert microphone.began is not None
        began = microphone.began
        microphone.began -= 10.0  # as if nobody had asked for ten seconds
        microphone.hold()
        frame = await microphone.recv()
        assert frame.pts == 2 * SOUND_TICKS
        assert microphone.began >= began, "what was missed does not come in a burst"

    asyncio.run(main())


def test_samples_of_another_kind_are_refused() -> None:
    with pytest.raises(AudioFormatError, match=r"expected int16 \[n\], got float32"):
        asyncio.run(Microphone().say(np.zeros(9, np.float32)))


async def pictures() -> AsyncIterator[U8 | VideoFrame]:
    yield np.full((48, 64, 3), 100, np.uint8)
    yield VideoFrame.from_ndarray(np.full((48, 64, 3), 200, np.uint8), format="bgr24")


def test_a_camera_shows_the_pictures_of_a_source_until_it_ends() -> None:
    async def main() -> None:
        camera = open_camera(pictures())
        means = [await mean_of(camera), await mean_of(camera)]
        assert [round(mean / 10) for mean in means] == [10, 20]
        with pytest.raises(MediaStreamError):
            await camera.recv()
        assert camera.readyState == "ended"

    asyncio.run(main())


def test_a_file_is_shown_again_and_again(tmp_path: Path) -> None:
    make_avatar(tmp_path, frames=3)

    async def main() -> None:
        camera = open_camera(tmp_path / "ada" / "clip.mp4")
        means = [await mean_of(camera) for _ in range(6)]
        camera.stop()
        assert means[:3] == means[3:] and means[0] < means[1] < means[2]

    asyncio.run(main())


def test_a_file_without_pictures_is_refused(tmp_path: Path) -> None:
    (tmp_path / "me.mp4").write_bytes(b"no film")
    for name in ("me.mp4", "you.mp4"):
        with pytest.raises(VideoFormatError, match=f"expected a video file, .*{name}"):
            open_camera(tmp_path / name)


def test_pictures_of_another_form_are_refused() -> None:
    async def grey() -> AsyncIterator[U8 | VideoFrame]:
        yield np.zeros((4, 4), np.uint8)

    async def main() -> None:
        with pytest.raises(VideoFormatError, match=r"expected uint8 \[h, w, 3\]"):
            await open_camera(grey()).recv()

    asyncio.run(main())
