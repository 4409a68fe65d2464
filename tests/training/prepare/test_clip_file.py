"""Clips come back as they were written."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from engine.media import F32, U8
from tests.prepared_videos import heads, murmur
from training.prepare.clip_file import replace_sound, write_clip


def read(path: Path) -> tuple[list[av.VideoFrame], F32]:
    with av.open(str(path)) as container:
        assert container.streams.video[0].average_rate == Fraction(25)
        assert container.streams.audio[0].codec_context.sample_rate == 16_000
        pictures = list(container.decode(video=0))
    with av.open(str(path)) as container:
        parts = [frame.to_ndarray().ravel() for frame in container.decode(audio=0)]
    return pictures, np.concatenate(parts).astype(np.float32) / 32767.0


def crops(count: int) -> U8:
    return np.stack(heads(count, side=64))


def test_sound_comes_back_sample_for_sample_and_pictures_nearly(tmp_path: Path) -> None:
    shown, said = crops(30), np.clip(murmur(30), -1, 1)
    write_clip(tmp_path / "c.mp4", shown, said)
    pictures, sound = read(tmp_path / "c.mp4")
    assert [float(picture.time) for picture in pictures] == [index / 25 for index in range(30)]
    assert len(sound) == len(said)
    assert np.abs(sound - said).max() <= 0.501 / 32767
    lumas = [picture.to_ndarray(format="gray").astype(float) for picture in pictures]
    expected = [
        av.VideoFrame.from_ndarray(crop, format="rgb24").reformat(format="gray") for crop in shown
    ]
    errors = [
        float(((luma - frame.to_ndarray()) ** 2).mean())
        for luma, frame in zip(lumas, expected, strict=True)
    ]
    assert 10 * np.log10(255**2 / max(errors)) > 38.0
    assert [path.name for path in tmp_path.iterdir()] == ["c.mp4"]


def test_the_same_clip_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a.mp4", "b.mp4"):
        write_clip(tmp_path / name, crops(10), murmur(10))
    assert (tmp_path / "a.mp4").read_bytes() == (tmp_path / "b.mp4").read_bytes()


def test_other_sound_leaves_every_picture_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "c.mp4"
    write_clip(path, crops(20), murmur(20))
    before, _ = read(path)
    replace_sound(path, murmur(20, seed=1))
    after, sound = read(path)
    assert np.abs(sound - np.clip(murmur(20, seed=1), -1, 1)).max() <= 0.501 / 32767
    for old, new in zip(before, after, strict=True):
        assert old.pts == new.pts and old.time_base == new.time_base
        assert np.array_equal(old.to_ndarray(), new.to_ndarray())
