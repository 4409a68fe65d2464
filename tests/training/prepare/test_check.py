"""Files that can't be used are told from those that can, with the reason."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from engine.errors import MediaError
from engine.media import U8
from tests.prepared_videos import flash_video
from training.prepare.check import check_source, declared_seconds
from training.toy_videos import Track, steady, turn_by_header, write_video

LATER = Fraction(1, 2)


def test_a_plain_video_has_no_remarks(tmp_path: Path) -> None:
    info = check_source(flash_video(tmp_path / "v.mp4", steady(30), LATER, 0.5), 1.0)
    assert (info.width, info.height, info.frames) == (48, 32, 30)
    assert info.rate == pytest.approx(25.0)
    assert info.remarks() == []


def test_a_file_that_is_no_video_is_unreadable(tmp_path: Path) -> None:
    path = tmp_path / "v.mp4"
    path.write_bytes(b"this is no video" * 100)
    with pytest.raises(MediaError, match="unreadable"):
        check_source(path, 1.0)
    assert declared_seconds(path) == 0.0


def test_sound_and_pictures_must_both_be_there(tmp_path: Path) -> None:
    whole = flash_video(tmp_path / "v.mkv", steady(30), LATER, 0.5)
    silent = write_video(tmp_path / "silent.mp4", _flat(30), steady(30), None)
    with pytest.raises(MediaError, match="no sound"):
        check_source(silent, 1.0)
    assert check_source(whole, 1.0).channels == 1


def test_a_short_video_and_one_with_short_sound_are_refused(tmp_path: Path) -> None:
    path = flash_video(tmp_path / "v.mp4", steady(30), LATER, 0.5)
    with pytest.raises(MediaError, match=r"too short: 1\.2 s"):
        check_source(path, 2.0)


def test_a_video_that_breaks_off_is_refused(tmp_path: Path) -> None:
    path = flash_video(tmp_path / "v.mkv", steady(100), LATER, 0.5)
    data = path.read_bytes()
    (tmp_path / "half.mkv").write_bytes(data[: len(data) // 2])
    with pytest.raises(MediaError, match="breaks off"):
        check_source(tmp_path / "half.mkv", 1.0)


def test_few_pictures_a_second_are_refused(tmp_path: Path) -> None:
    path = flash_video(tmp_path / "v.mp4", steady(30, 10), LATER, 0.5)
    with pytest.raises(MediaError, match=r"too few pictures: 10\.0 a second"):
        check_source(path, 1.0)


def test_a_phones_turned_and_uneven_pictures_are_remarked(tmp_path: Path) -> None:
    uneven = [Fraction(index, 25) + Fraction(index % 3, 100) for index in range(40)]
    path = flash_video(tmp_path / "v.mp4", uneven, LATER, 0.5, Track(rate_hz=48_000, channels=2))
    turn_by_header(path)
    info = check_source(path, 1.0)
    assert info.rotation in (90, 270)
    assert info.variable
    assert [remark.partition(":")[0] for remark in info.remarks()] == [
        "rotated",
        "variable frame rate",
    ]


def _flat(count: int) -> list[U8]:
    return [np.full((32, 48, 3), 90, np.uint8)] * count
