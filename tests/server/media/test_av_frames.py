"""PyAV frames and numpy."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from av import AudioFrame, VideoFrame

from engine.media import Picture
from server.media.av_frames import (
    SpeechResampler,
    fit_size,
    frame_from_picture,
    frame_from_sound,
    mono_from_frame,
    picture_from_frame,
)


def test_a_picture_survives_the_way_there_and_back() -> None:
    i420 = np.random.default_rng(1).integers(0, 255, (72, 64), np.uint8)
    frame = frame_from_picture(Picture(i420), 1920)
    assert (frame.width, frame.height, frame.pts) == (64, 48, 3600)
    assert frame.time_base == Fraction(1, 90_000)
    assert np.array_equal(picture_from_frame(frame, (1280, 720)).i420, i420)


@pytest.mark.parametrize(
    ("size", "fitted"),
    [
        ((640, 480), (640, 480)),
        ((1920, 1080), (1280, 720)),
        ((1080, 1920), (404, 720)),
        ((641, 359), (640, 358)),
        ((1, 1), (2, 2)),
    ],
)
def test_sizes_become_even_and_fit(size: tuple[int, int], fitted: tuple[int, int]) -> None:
    assert fit_size(*size, (1280, 720)) == fitted


def test_odd_large_and_rgb_pictures_are_taken() -> None:
    rgb = VideoFrame.from_ndarray(np.full((1081, 1921, 3), 128, np.uint8), format="rgb24")
    picture = picture_from_frame(rgb, (1280, 720))
    assert (picture.width, picture.height) == (1278, 720)
    assert abs(int(picture.luma[300, 300]) - 126) <= 2


def test_stereo_becomes_the_mean_of_its_channels() -> None:
    stereo = np.array([[1000, -1000, 32767, 32767, -32768, -32768, 10, 20]], np.int16)
    frame = AudioFrame.from_ndarray(stereo, format="s16", layout="stereo")
    assert mono_from_frame(frame).tolist() == [0, 32767, -32768, 15]


def test_sound_keeps_its_samples_and_time() -> None:
    samples = np.arange(960, dtype=np.int16)
    frame = frame_from_sound(samples, 4800)
    assert (frame.pts, frame.sample_rate, frame.samples) == (4800, 48_000, 960)
    assert np.array_equal(mono_from_frame(frame), samples)


def test_resampling_chunked_equals_whole() -> None:
    noise = np.random.default_rng(2).integers(-9000, 9000, 48_000).astype(np.int16)
    whole = SpeechResampler().push(noise)
    chunked = SpeechResampler()
    parts = np.concatenate([chunked.push(noise[at : at + 960]) for at in range(0, 48_000, 960)])
    length = min(len(whole), len(parts))
    assert length > 15_900
    assert np.allclose(whole[:length], parts[:length], atol=1e-4)


def test_resampled_speech_is_in_step_with_the_sound() -> None:
    time_48 = np.arange(48_000) / 48_000
    tone = (np.sin(2 * np.pi * 440 * time_48) * 20_000).astype(np.int16)
    resampler = SpeechResampler()
    speech = np.concatenate([resampler.push(tone[at : at + 960]) for at in range(0, 48_000, 960)])
    assert 48_000 // 3 - len(speech) <= 32
    expected = np.sin(2 * np.pi * 440 * np.arange(len(speech)) / 16_000) * 20_000 / 32_768
    assert np.abs(speech - expected)[200:].max() < 1e-3


def test_a_resampler_that_forgets_gives_silence_and_stays_in_step() -> None:
    resampler = SpeechResampler()
    given = len(resampler.push(np.full(960, 9000, np.int16)))
    resampler.forget()
    quiet = [resampler.push(np.zeros(960, np.int16)) for _ in range(10)]
    assert not any(part.any() for part in quiet)
    assert 0 <= 11 * 320 - given - sum(map(len, quiet)) < 40
