"""Pictures come at 25 a second by their time stamps, whatever the file's own rate."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from engine.errors import MediaError
from tests.prepared_videos import brightness, flash_video
from training.prepare.check import check_source
from training.prepare.pictures import GridFrame, grid_frames
from training.toy_videos import steady, turn_by_header, write_video


def frames_of(path: Path, count: int = 10_000) -> list[GridFrame]:
    info = check_source(path, 0.4)
    return list(grid_frames(path, info.origin, min(count, info.frames)))


@pytest.mark.parametrize("rate", [24, 25, 30, 50, 60])
@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_a_flash_keeps_its_time_at_every_rate(tmp_path: Path, rate: int, suffix: str) -> None:
    path = flash_video(tmp_path / f"v{suffix}", steady(2 * rate, rate), Fraction(1), 1.0)
    frames = frames_of(path)
    assert [frame.index for frame in frames] == list(range(50))
    first = next(frame.index for frame in frames if brightness(frame) > 128)
    # At most half a picture early or late, rounded to a frame.
    assert abs(first - 25) <= (0 if rate in (25, 50) else 1)
    assert not any(frame.stale for frame in frames)


def test_of_thirty_a_second_the_nearest_pictures_are_shown(tmp_path: Path) -> None:
    times = steady(30, 30)
    pictures = [np.full((32, 48, 3), 40 + 6 * index, np.uint8) for index in range(30)]
    path = write_video(tmp_path / "v.mkv", pictures, times, np.zeros(16_000, np.float32))
    shown = [round((brightness(frame) - 16) * 255 / 219 - 40) / 6 for frame in frames_of(path)]
    nearest = [min(range(30), key=lambda k: abs(k / 30 - i / 25)) for i in range(25)]
    assert np.abs(np.array(shown) - nearest).max() < 0.5


def test_a_pause_in_the_pictures_is_stale_but_keeps_the_clock(tmp_path: Path) -> None:
    times = [*steady(10), *(time + Fraction(3, 5) for time in steady(100)[10:])]
    frames = frames_of(flash_video(tmp_path / "v.mkv", times, times[10], 0.1))
    stale = [frame.index for frame in frames if frame.stale]
    assert stale == list(range(11, 24))
    assert next(frame.index for frame in frames if brightness(frame) > 128) in (17, 18)


def test_a_turned_video_comes_out_upright(tmp_path: Path) -> None:
    upright = np.full((48, 32, 3), 30, np.uint8)
    upright[:24] = 220
    path = write_video(
        tmp_path / "v.mp4", [np.rot90(upright)] * 15, steady(15), np.zeros(9_600, np.float32)
    )
    turn_by_header(path)
    picture = frames_of(path, 1)[0].picture()
    assert (picture.width, picture.height) == (32, 48)
    assert picture.luma[:20].mean() > 180 > 60 > picture.luma[28:].mean()


def test_an_odd_last_row_and_column_are_left_out(tmp_path: Path) -> None:
    picture = np.full((33, 47, 3), 120, np.uint8)
    path = tmp_path / "v.avi"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mjpeg", rate=25)
        stream.width, stream.height, stream.pix_fmt = 47, 33, "yuvj444p"
        for _ in range(3):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    shown = next(iter(grid_frames(path, Fraction(0), 3))).picture()
    assert (shown.width, shown.height) == (46, 32)
    assert abs(float(shown.luma.mean()) - 119) < 3


def test_broken_pictures_are_an_error_that_says_when(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    noise = [rng.integers(0, 255, (32, 48, 3), np.uint8) for _ in range(50)]
    path = write_video(tmp_path / "v.mp4", noise, steady(50), np.zeros(32_000, np.float32))
    data = bytearray(path.read_bytes())
    half = len(data) * 2 // 3
    data[half : half + 3000] = rng.integers(0, 255, 3000, np.uint8).tobytes()
    path.write_bytes(bytes(data))
    with pytest.raises(MediaError, match=r"unreadable: .* after (0\.[5-9]|1\.[0-9]) s"):
        list(grid_frames(path, Fraction(0), 50))
