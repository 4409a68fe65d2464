"""Log-mels of recordings and of streams, and which frame reads what."""

from __future__ import annotations

import numpy as np
import pytest

from engine.audio.chunks import chunk_positions, looped_frames
from engine.audio.log_mel import log_mel_frames, mel_filters, whisper_log_mel
from engine.errors import AudioFormatError
from engine.media import F32
from engine.spec import AudioSpec

SPEC = AudioSpec(width=16, heads=2, layers=1, positions=16, log_floor=-5.0)


def speech(samples: int) -> F32:
    return np.random.default_rng(3).normal(0, 0.1, samples).astype(np.float32)


def test_log_mel_chunked_equals_whole() -> None:
    samples = speech(160 * 40 + 240)
    whole = log_mel_frames(samples, SPEC)
    assert whole.shape == (80, 40)
    parts = [log_mel_frames(samples[160 * i : 160 * (i + 4) + 240], SPEC) for i in range(0, 40, 4)]
    assert np.allclose(np.concatenate(parts, axis=1), whole, atol=1e-6)


def test_a_frame_does_not_depend_on_the_loudest() -> None:
    quiet = speech(4000) * np.float32(0.01)
    loud = np.concatenate([quiet, speech(4000) * np.float32(9)])
    ours = log_mel_frames(loud, SPEC)[:, :20]
    assert np.array_equal(ours, log_mel_frames(quiet, SPEC)[:, :20])
    assert not np.allclose(whisper_log_mel(loud)[:, :20], whisper_log_mel(quiet)[:, :20])


def test_silence_lies_on_the_floor() -> None:
    silent = log_mel_frames(np.zeros(4000, np.float32), SPEC)
    assert np.all(silent == (SPEC.log_floor + 4.0) / 4.0)


def test_streams_and_recordings_agree_where_neither_is_floored() -> None:
    samples = speech(8000)
    stream = log_mel_frames(samples, AudioSpec(log_floor=-10.0))
    recording = whisper_log_mel(samples)
    # A stream's frame j is centred at sample 160 j + 200, a recording's frame m at 160 m.
    shifted = whisper_log_mel(samples[40:])
    assert recording.shape == (80, 50)
    assert np.allclose(stream[:, 2:40], shifted[:, 3:41], atol=1e-5)


def test_filters_cover_the_band_without_gaps() -> None:
    filters = mel_filters(80)
    assert filters.shape == (80, 201)
    assert np.all(filters.max(axis=1) > 0)
    assert np.all(filters[:, 1:200].sum(axis=0) > 0)


@pytest.mark.parametrize("samples", [np.zeros(399, np.float32), np.zeros(800, np.int16)])
def test_samples_that_are_no_window_are_refused(samples: F32) -> None:
    with pytest.raises(AudioFormatError, match="expected float samples"):
        log_mel_frames(samples, SPEC)


def test_a_recording_too_short_to_reflect_is_refused() -> None:
    with pytest.raises(AudioFormatError, match="more than 200 samples"):
        whisper_log_mel(np.zeros(200, np.float32))


def test_chunks_are_clamped_at_both_ends() -> None:
    assert chunk_positions(0, 185) == [0, 0, 0, 0, 0, 1, 2, 3, 4, 5]
    assert chunk_positions(93, 185)[-1] == 184


def test_short_videos_run_to_and_fro() -> None:
    assert looped_frames(3, 8) == [0, 1, 2, 2, 1, 0, 0, 1]
