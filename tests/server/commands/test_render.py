"""Rendered files have the length of their speech, its sound in place and the picture's size."""

from __future__ import annotations

import argparse
import json
import wave
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

import server.commands.render
from engine.avatar import AvatarSource
from engine.backends.base import GeneratedHop
from engine.errors import LipwireError, MediaError
from engine.media import F32, Picture
from server.commands.render import (
    RenderInput,
    add_render_arguments,
    render,
    run_render,
    video_input,
)
from server.media.media_files import Mp4Writer, VideoFile
from tests.fakes import FakeBackend, fake_avatar, grey_picture, speech
from tests.photograph import portrait_rgb


def _write_wav(path: Path, samples: F32, rate: int = 16_000) -> Path:
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes((np.clip(samples, -1, 1) * 32767).astype("<i2").tobytes())
    return path


def _write_video(path: Path, pictures: list[Picture]) -> Path:
    size = {"width": pictures[0].width, "height": pictures[0].height}
    with Mp4Writer(path, **size, channels=1, crf=1) as writer:
        for picture in pictures:
            writer.add_picture(picture)
    return path


def _levels(path: Path) -> list[int]:
    return [int(picture.luma[:8, :8].mean()) for picture in VideoFile(path).frames()]


def _avatar() -> RenderInput:
    return RenderInput(AvatarSource(fake_avatar()), 96, 80)


@pytest.mark.parametrize("samples", [640, 641, 20_000, 31_999, 32_000, 32_001])
def test_the_result_has_as_many_frames_as_the_sound_needs(tmp_path: Path, samples: int) -> None:
    audio = _write_wav(tmp_path / "a.wav", speech(51)[:samples])
    counted: list[int] = []
    report = render(FakeBackend(), _avatar(), audio, tmp_path / "out.mp4", advance=counted.append)
    expected = -(-samples // 640)
    assert report.frames == expected == sum(counted)
    assert len(_levels(tmp_path / "out.mp4")) == expected
    assert (report.width, report.height) == (96, 80)


@pytest.mark.parametrize("rate", [16_000, 44_100, 48_000])
def test_the_mouth_moves_when_the_sound_does(tmp_path: Path, rate: int) -> None:
    samples = np.zeros(rate * 2, np.float32)
    samples[rate:] = np.random.default_rng(0).normal(0, 0.1, rate)
    audio = _write_wav(tmp_path / "a.wav", samples, rate)
    out = tmp_path / "out.mp4"
    report = render(FakeBackend(), _avatar(), audio, out)
    assert report.frames == 50
    with av.open(str(out)) as container:
        frames = list(container.decode(container.streams.audio[0]))
        assert frames[0].time is not None
        sound = np.concatenate([frame.to_ndarray()[0] for frame in frames])
        onset = round(frames[0].time * 48_000) + int(np.argmax(np.abs(sound) > 0.05))
    assert abs(onset - 48_000) < 480  # 10 ms
    # The fake mouth is red where the clip is grey: it sets in up to 80 ms before the sound.
    middles = [picture.luma[36, 46] for picture in VideoFile(out).frames()]
    clip = [100 + index % 10 for index in range(50)]
    moved = [abs(int(m) - c) > 12 for m, c in zip(middles, clip, strict=True)]
    assert moved.index(True) in (23, 24)


def test_a_video_that_is_too_short_runs_there_and_back(tmp_path: Path) -> None:
    levels = [40 + 10 * index for index in range(10)]
    video = _write_video(tmp_path / "v.mp4", [grey_picture(level) for level in levels])
    audio = _write_wav(tmp_path / "a.wav", speech(25))
    backend = FakeBackend()
    report = render(backend, video_input(video, backend), audio, tmp_path / "out.mp4")
    assert report.generated_frames == 0
    shown = _levels(tmp_path / "out.mp4")
    expected = (levels + levels[::-1] + levels)[:25]
    assert np.abs(np.array(shown) - expected).max() <= 2


def test_a_face_in_a_video_is_found_and_given_a_mouth(tmp_path: Path) -> None:
    still = cv2.cvtColor(portrait_rgb()[:480], cv2.COLOR_RGB2YUV_I420)
    video = _write_video(tmp_path / "v.mp4", [Picture(np.asarray(still, np.uint8))] * 8)
    audio = _write_wav(tmp_path / "a.wav", speech(12))
    backend = FakeBackend()
    report = render(backend, video_input(video, backend), audio, tmp_path / "out.mp4")
    assert (report.width, report.height) == (512, 480)
    assert report.frames == 12
    assert report.generated_frames == 12


def test_frames_before_a_face_appears_pass_through(tmp_path: Path) -> None:
    still = cv2.cvtColor(portrait_rgb()[:480], cv2.COLOR_RGB2YUV_I420)
    empty = grey_picture(90, 512, 480)
    pictures = [empty] * 10 + [Picture(np.asarray(still, np.uint8))] * 10
    video = _write_video(tmp_path / "v.mp4", pictures)
    audio = _write_wav(tmp_path / "a.wav", speech(20))
    backend = FakeBackend()
    report = render(backend, video_input(video, backend), audio, tmp_path / "out.mp4")
    assert report.frames == 20
    assert report.generated_frames == 10


def _run(*words: str) -> int:
    parser = argparse.ArgumentParser()
    add_render_arguments(parser)
    return run_render(parser.parse_args(words))


def test_the_command_renders_and_reports(
    tmp_path: Path,
    tiny_onnx_model: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    video = _write_video(tmp_path / "v.mp4", [grey_picture(90)] * 5)
    audio = _write_wav(tmp_path / "a.wav", speech(9))
    out = tmp_path / "out.mp4"
    words = ["--video", str(video), "--audio", str(audio), "--out", str(out)]
    words += ["--model", str(tiny_onnx_model)]
    assert _run(*words, "--json") == 0
    report = json.loads(capsys.readouterr().out)
    assert report["frames"] == 9
    assert report["out"] == str(out)
    assert _run(*words) == 0
    assert "9 frames (0.36 s) of 96 x 80" in capsys.readouterr().err


def test_what_cannot_be_rendered_is_said_and_leaves_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server.commands.render, "open_backend", lambda *given: FakeBackend())
    video = _write_video(tmp_path / "v.mp4", [grey_picture(90)] * 5)
    audio = _write_wav(tmp_path / "a.wav", speech(9))
    out = tmp_path / "out.mp4"

    def message(face: str, name: str, sound: Path = audio, target: Path = out) -> str:
        with pytest.raises(LipwireError) as caught:
            _run(face, name, "--audio", str(sound), "--out", str(target))
        return str(caught.value)

    assert "absent.mp4: expected a video" in message("--video", str(tmp_path / "absent.mp4"))
    assert "expected the name of an avatar" in message("--avatar", "nobody")
    assert "expected a sound file" in message("--video", str(video), tmp_path / "absent.wav")
    assert "expected another file to write" in message("--video", str(video), target=video)
    assert "cannot be written" in message("--video", str(video), target=tmp_path / "no" / "o.mp4")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.wav", "v.mp4"]


def test_a_failing_stream_leaves_no_file(tmp_path: Path) -> None:
    class Failing(FakeBackend):
        def run_hop(self, batch: object) -> list[GeneratedHop]:
            raise RuntimeError("the network failed")

    audio = _write_wav(tmp_path / "a.wav", speech(9))
    with pytest.raises(RuntimeError, match="the network failed"):
        render(Failing(), _avatar(), audio, tmp_path / "out.mp4")
    assert [path.name for path in tmp_path.iterdir()] == ["a.wav"]


def test_a_sound_file_without_samples_is_refused(tmp_path: Path) -> None:
    audio = _write_wav(tmp_path / "a.wav", np.zeros(0, np.float32))
    with pytest.raises(MediaError, match="sound"):
        render(FakeBackend(), _avatar(), audio, tmp_path / "out.mp4")
