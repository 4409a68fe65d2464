"""Log-mel windows do not depend on how the speech was chopped."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.audio.features import FeatureStream
from engine.audio.log_mel import whisper_log_mel
from engine.errors import NeedMoreAudio, StreamError
from engine.media import F32, FRAME_SAMPLES, STEP_SAMPLES
from engine.models.whisper import WhisperEncoder, offline_states
from engine.spec import AudioSpec

AUDIO = AudioSpec(width=8, layers=1, heads=2, positions=32)
RUNNING = replace(AUDIO, floor="running", log_floor=-8.0)
GUARDED = replace(RUNNING, guard=3, tail=4, positions=39)
SPECS = pytest.mark.parametrize("audio", [AUDIO, RUNNING, GUARDED], ids=["now", "run", "guard"])
FRAMES = 30


def _speech(audio: AudioSpec = AUDIO) -> F32:
    samples = FRAMES * FRAME_SAMPLES + audio.lookahead_samples
    noise = np.random.default_rng(3).standard_normal(samples)
    swell = np.sin(np.arange(samples) / 900) ** 2 * np.linspace(1e-3, 1.0, samples)
    return np.asarray(0.5 * noise * swell, np.float32)


@cache
def _whole(audio: AudioSpec = AUDIO) -> F32:
    stream = FeatureStream(audio)
    stream.push(_speech(audio))
    return stream.windows(range(FRAMES))


def _piecewise(audio: AudioSpec, cuts: Sequence[int], hop: int = 1) -> F32:
    stream = FeatureStream(audio)
    windows: list[F32] = []
    for piece in np.split(_speech(audio), sorted(cuts)):
        stream.push(piece)
        while len(windows) < FRAMES:
            frames = range(len(windows), min(len(windows) + hop, FRAMES))
            try:
                windows.extend(stream.windows(frames))
            except NeedMoreAudio:
                break
            stream.trim(len(windows))
    return np.stack(windows)


@SPECS
@settings(max_examples=15, deadline=None, derandomize=True)
@given(
    cuts=st.lists(st.integers(0, len(_speech())), max_size=60),
    hop=st.sampled_from([1, 2, 4, 8]),
)
def test_features_chunked_equals_whole(audio: AudioSpec, cuts: list[int], hop: int) -> None:
    assert np.array_equal(_piecewise(audio, cuts, hop), _whole(audio))


@SPECS
def test_features_of_ten_milliseconds_at_a_time_equal_whole(audio: AudioSpec) -> None:
    cuts = range(160, len(_speech(audio)), 160)
    assert np.array_equal(_piecewise(audio, cuts), _whole(audio))


def test_a_window_shifts_by_four_log_mel_frames_a_video_frame() -> None:
    whole = _whole()
    assert whole.shape == (FRAMES, 80, 64)
    assert np.array_equal(whole[5][:, 4:], whole[6][:, :-4])


def test_silence_before_the_start_is_the_floor() -> None:
    assert (_whole()[0][:, :40] == np.float32((AUDIO.log_floor + 4) / 4)).all()


@SPECS
def test_a_segment_that_starts_later_has_the_same_windows(audio: AudioSpec) -> None:
    later = FeatureStream(audio, start_frame=7)
    later.push(_speech(audio))
    assert later.end_sample == 7 * FRAME_SAMPLES + len(_speech(audio))
    assert np.array_equal(later.windows(range(7, 7 + FRAMES)), _whole(audio))


@SPECS
def test_a_frame_waits_for_exactly_its_look_ahead(audio: AudioSpec) -> None:
    stream = FeatureStream(audio)
    stream.push(_speech()[: FRAME_SAMPLES + audio.lookahead_samples - 1])
    with pytest.raises(NeedMoreAudio, match="1 more samples"):
        stream.windows(range(0, 1))
    stream.push(np.zeros(1, np.float32))
    assert stream.windows(range(0, 1)).shape == (1, 80, audio.mel_frames)


def test_a_guard_shows_more_of_the_coming_sound_and_a_tail_shows_none() -> None:
    guarded = _whole(GUARDED)
    stream = FeatureStream(RUNNING)
    stream.push(_speech(GUARDED))
    plain = stream.windows(range(FRAMES))
    assert guarded.shape[2] == 2 * 39 and plain.shape[2] == 2 * 32
    # Three guard steps are six log-mel frames, two video frames are eight.
    assert np.allclose(guarded[10, :, :-8][:, -36:], plain[12, :, -38:-2], atol=1e-5)
    assert (guarded[..., -8:] == guarded.min(axis=(1, 2), keepdims=True)).all()


def test_a_running_floor_lies_eight_below_the_loudest_value_so_far() -> None:
    free = _whole(replace(AUDIO, log_floor=-30.0))
    windows = _whole(replace(RUNNING, floor_fall=0.0))
    loudest = np.maximum.accumulate(free.max(axis=(1, 2)))
    floors = np.maximum(loudest - 2.0, -1.0)[:, None, None].astype(np.float32)
    assert np.array_equal(windows, np.maximum(free, floors))
    assert floors[0] == -1.0 and floors[-1] > -1.0


def test_what_comes_after_a_window_does_not_change_it() -> None:
    stream = FeatureStream(GUARDED)
    arrived = 10 * FRAME_SAMPLES + GUARDED.lookahead_samples
    stream.push(_speech(GUARDED)[:arrived])
    stream.push(np.full(FRAME_SAMPLES, 0.9, np.float32) * np.sign(_speech()[:FRAME_SAMPLES]))
    assert np.array_equal(stream.windows(range(10)), _whole(GUARDED)[:10])


def test_a_bang_lifts_the_floor_which_falls_slowly_and_starts_anew_with_a_segment() -> None:
    bang = np.zeros(100 * FRAME_SAMPLES + RUNNING.lookahead_samples, np.float32)
    bang[3000:3160] = np.tile([0.9, -0.9], 80)
    stream = FeatureStream(RUNNING)
    stream.push(bang)
    windows = stream.windows(range(100))
    floors = windows.min(axis=(1, 2))
    assert floors[0] == np.float32(-1.0) and floors[20] > -0.85
    assert np.allclose(floors[20:] - floors[20], -0.1 / 4.0 * 0.04 * np.arange(80), atol=1e-5)
    again = FeatureStream(RUNNING, start_frame=60)
    again.push(bang[:20000])
    assert np.array_equal(again.windows(range(60, 62)), windows[:2])


@pytest.mark.parametrize("guard", [0, 4])
def test_a_window_as_long_as_the_recording_gives_the_offline_tokens(guard: int) -> None:
    steps = 46
    spec = AudioSpec(
        width=12,
        layers=2,
        heads=2,
        positions=steps,
        guard=guard,
        floor="running",
        floor_fall=0.0,
        log_floor=-30.0,
    )
    frame = (steps - 6 - guard) // 2
    rng = np.random.default_rng(9)
    # Whisper mirrors a recording's ends, a stream has silence there: they agree in silence.
    speech = np.pad(0.1 * rng.standard_normal(steps * STEP_SAMPLES - 1000), 500)
    speech[4000:7000] *= 1e-6
    samples = np.asarray(speech, np.float32)
    torch.manual_seed(2)
    encoder = WhisperEncoder(spec).eval().requires_grad_(False)
    offline = offline_states(encoder, torch.from_numpy(whisper_log_mel(samples)))
    stream = FeatureStream(spec)
    stream.push(np.pad(samples, (0, 40)))
    tokens = encoder(torch.from_numpy(stream.windows(range(frame, frame + 1))))[0]
    want = offline[2 * frame - 4 : 2 * frame + 6].flatten(0, 1)
    assert (tokens - want).abs().max() < 1e-5


def test_the_running_floor_outlives_the_frames_that_set_it() -> None:
    stream, whole = FeatureStream(RUNNING), FeatureStream(RUNNING)
    bang, rest = np.split(_speech(RUNNING), [FRAME_SAMPLES])
    bang[200:300] = 0.9
    whole.push(np.concatenate([bang, rest]))
    stream.push(bang)
    stream.trim(20)
    stream.push(rest)
    assert np.array_equal(stream.windows(range(20, 22)), whole.windows(range(20, 22)))


def test_memory_is_bounded_and_trimmed_frames_are_refused() -> None:
    stream = FeatureStream(AUDIO)
    for frame in range(200):
        stream.push(_speech()[:FRAME_SAMPLES])
        stream.trim(frame)
        assert stream.buffered_frames <= AUDIO.mel_frames + 16
    with pytest.raises(StreamError, match="trimmed"):
        stream.windows(range(150, 151))
