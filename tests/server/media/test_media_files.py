"""Files come in upright at 25 a second and go out with sound and picture in step."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from engine.errors import MediaError
from engine.media import Picture
from server.media import media_files
from server.media.media_files import Mp4Writer, SoundFile, VideoFile


def _level(picture: Picture) -> int:
    return int(picture.luma[:8, :8].mean())


def _write_video(
    path: Path, levels: list[int], times_ms: list[int], *, size: tuple[int, int] = (64, 48)
) -> Path:
    """Grey pictures at the given times; the lower right quarter is dark."""
    width, height = size
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=1000)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv444p"
        stream.time_base = Fraction(1, 1000)
        stream.codec_context.time_base = Fraction(1, 1000)
        stream.options = {"crf": "0", "bf": "2", "g": "20"}
        for level, time in zip(levels, times_ms, strict=True):
            planes = np.full((3, height, width), 128, np.uint8)
            planes[0] = level
            planes[0, height // 2 :, width // 2 :] = 16
            frame = av.VideoFrame.from_ndarray(planes, format="yuv444p", channel_last=False)
            frame.pts, frame.time_base = time, Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def _write_wav(path: Path, samples: np.ndarray, rate: int) -> Path:
    with av.open(str(path), "w") as container:
        layout = "mono" if len(samples) == 1 else "stereo"
        stream = container.add_stream("pcm_s16le", rate=rate, layout=layout)
        packed = (np.ascontiguousarray(samples.T).reshape(1, -1) * 32767).astype(np.int16)
        frame = av.AudioFrame.from_ndarray(packed, format="s16", layout=layout)
        frame.sample_rate = rate
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def test_a_video_of_25_a_second_comes_out_frame_by_frame(tmp_path: Path) -> None:
    levels = [20 + 3 * i for i in range(60)]
    video = VideoFile(_write_video(tmp_path / "v.mp4", levels, [40 * i for i in range(60)]))
    assert (video.info.width, video.info.height, video.info.frames) == (64, 48, 60)
    assert [_level(p) for p in video.frames()] == levels
    assert [_level(p) for p in video.frames(37, 41)] == levels[37:41]
    assert [_level(p) for p in video.frames(55)] == levels[55:]


def test_other_rates_are_brought_to_25_by_the_nearest_picture(tmp_path: Path) -> None:
    fast = VideoFile(
        _write_video(tmp_path / "f.mp4", [20 + i for i in range(100)], [20 * i for i in range(100)])
    )
    assert [_level(p) for p in fast.frames()] == [20 + 2 * i for i in range(50)]
    slow = VideoFile(
        _write_video(
            tmp_path / "s.mp4", [20 + 5 * i for i in range(10)], [95 * i for i in range(10)]
        )
    )
    shown = [_level(p) for p in slow.frames()]
    assert shown[:8] == [20, 20, 25, 25, 25, 30, 30, 35]
    assert len(shown) == 22


def test_gaps_and_late_starts_are_filled_in_time(tmp_path: Path) -> None:
    times = [200, 240, 280, 600, 640]
    video = VideoFile(_write_video(tmp_path / "v.mp4", [50, 60, 70, 80, 90], times))
    assert [_level(p) for p in video.frames()] == [50, 60, 70] + [70] * 7 + [80, 90]


def test_a_rotated_video_comes_out_upright(tmp_path: Path) -> None:
    plain = _write_video(tmp_path / "plain.mp4", [200] * 5, [40 * i for i in range(5)])
    for degrees, dark in ((90, (1, 0)), (180, (0, 0)), (270, (0, 1))):
        turned = _rotated_copy(plain, tmp_path / f"{degrees}.mp4", degrees)
        video = VideoFile(turned)
        picture = next(video.frames())
        expected = (64, 48) if degrees == 180 else (48, 64)
        assert (picture.width, picture.height) == expected
        halves = picture.luma.reshape(2, picture.height // 2, 2, picture.width // 2)
        assert np.unravel_index(halves.mean(axis=(1, 3)).argmin(), (2, 2)) == dark


def _rotated_copy(source: Path, target: Path, degrees: int) -> Path:
    """The file with a display matrix, clockwise, in its track header, as cameras write it."""
    data = bytearray(source.read_bytes())
    one = 1 << 16
    matrices = {
        90: (0, one, -one, 0),
        180: (-one, 0, 0, -one),
        270: (0, -one, one, 0),
    }
    a, b, c, d = matrices[degrees]
    identity = b"".join(v.to_bytes(4, "big") for v in (one, 0, 0, 0, one, 0, 0, 0, 1 << 30))
    turned = b"".join(
        (v & 0xFFFFFFFF).to_bytes(4, "big") for v in (a, b, 0, c, d, 0, 0, 0, 1 << 30)
    )
    header = data.index(b"tkhd")
    place = data.index(identity, header)
    data[place : place + len(turned)] = turned
    target.write_bytes(bytes(data))
    return target


def test_an_odd_size_loses_its_last_row_and_column(tmp_path: Path) -> None:
    video = VideoFile(_write_video(tmp_path / "v.mp4", [90] * 3, [0, 40, 80], size=(65, 49)))
    assert (video.info.width, video.info.height) == (64, 48)
    assert abs(_level(next(video.frames())) - 90) <= 1


def test_a_video_runs_there_and_back_holding_few_pictures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(media_files, "BACKWARD_FRAMES", 8)
    levels = [20 + 4 * i for i in range(30)]
    video = VideoFile(_write_video(tmp_path / "v.mp4", levels, [40 * i for i in range(30)]))
    endless = video.there_and_back()
    shown = [_level(next(endless)) for _ in range(75)]
    assert shown == (levels + levels[::-1] + levels)[:75]


@pytest.mark.parametrize(("rate", "channels"), [(16_000, 1), (44_100, 2), (48_000, 1), (22_050, 1)])
def test_sound_of_any_rate_keeps_its_length_and_place(
    tmp_path: Path, rate: int, channels: int
) -> None:
    time = np.arange(rate * 2) / rate
    click = np.where((time > 1.0) & (time < 1.02), 0.5 * np.sin(2 * np.pi * 1000 * time), 0.0)
    path = _write_wav(tmp_path / "s.wav", np.repeat(click[None], channels, axis=0), rate)
    sound = SoundFile(path)
    assert sound.seconds is not None
    assert abs(sound.seconds - 2.0) < 0.01
    pieces = list(sound.pieces())
    speech = np.concatenate([piece for piece, _ in pieces])
    loud = np.concatenate([piece for _, piece in pieces], axis=1)
    assert speech.dtype == np.float32
    assert len(speech) == 32_000
    assert loud.shape == (channels, 96_000)
    assert abs(int(np.argmax(np.abs(speech) > 0.1)) - 16_000) < 16
    assert abs(int(np.argmax(np.abs(loud[0]) > 0.1)) - 48_000) < 48


def test_what_is_written_has_the_length_and_the_sync_it_was_given(tmp_path: Path) -> None:
    path = tmp_path / "out.mp4"
    tone = np.zeros((1, 30 * 1920 - 700), np.float32)
    tone[:, 15 * 1920 :] = 0.4 * np.sin(np.arange(tone.shape[1] - 15 * 1920) / 8)
    with Mp4Writer(path, width=64, height=48, channels=1) as writer:
        for index in range(30):
            level = 40 if index < 15 else 200
            writer.add_picture(Picture(np.full((72, 64), level, np.uint8)))
            writer.add_sound(tone[:, index * 1920 : (index + 1) * 1920])
        assert not path.exists()
    assert [p.name for p in tmp_path.iterdir()] == ["out.mp4"]
    levels = [_level(p) for p in VideoFile(path).frames()]
    assert len(levels) == 30
    assert next(i for i, level in enumerate(levels) if level > 120) == 15
    with av.open(str(path)) as container:
        frames = list(container.decode(container.streams.audio[0]))
    samples = np.concatenate([frame.to_ndarray()[0] for frame in frames])
    assert frames[0].time is not None
    start = round(frames[0].time * 48_000)
    onset = start + int(np.argmax(np.abs(samples) > 0.1))
    assert abs(onset - 15 * 1920) < 240  # 5 ms


def test_a_failed_writing_leaves_nothing_behind(tmp_path: Path) -> None:
    with (
        pytest.raises(RuntimeError),
        Mp4Writer(tmp_path / "out.mp4", width=64, height=48, channels=1) as writer,
    ):
        writer.add_picture(Picture(np.full((72, 64), 90, np.uint8)))
        raise RuntimeError("the caller failed")
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_read_or_written_is_said_in_a_sentence(tmp_path: Path) -> None:
    text = tmp_path / "text.mp4"
    text.write_text("no media")
    wav = _write_wav(tmp_path / "s.wav", np.zeros((1, 100)), 16_000)
    with pytest.raises(MediaError, match=r"text\.mp4: expected a video"):
        VideoFile(text)
    with pytest.raises(MediaError, match="found none"):
        VideoFile(wav)
    with pytest.raises(MediaError, match=r"absent\.wav: expected a sound file, No such file"):
        SoundFile(tmp_path / "absent.wav")
    video = _write_video(tmp_path / "v.mp4", [90] * 3, [0, 40, 80])
    with pytest.raises(MediaError, match="no sound in it"):
        SoundFile(video)
    with pytest.raises(MediaError, match="cannot be written"):
        Mp4Writer(tmp_path / "no" / "out.mp4", width=64, height=48, channels=1)
