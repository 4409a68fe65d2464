"""Log-mel windows do not depend on how the speech was chopped."""

from __future__ import annotations

import numpy as np
import pytest

from engine.audio.features import FeatureStream
from engine.errors import NeedMoreAudio, StreamError
from engine.media import F32, FRAME_SAMPLES
from engine.spec import AudioSpec

AUDIO = AudioSpec(width=8, layers=1, heads=2, positions=32)
FRAMES = 30


def _speech() -> F32:
    noise = np.random.default_rng(3).standard_normal(FRAMES * FRAME_SAMPLES + 1320)
    swell = np.sin(np.arange(len(noise)) / 900) ** 2
    return np.asarray(0.1 * noise * swell, np.float32)


def _whole() -> F32:
    stream = FeatureStream(AUDIO)
    stream.push(_speech())
    return stream.windows(range(FRAMES))


@pytest.mark.parametrize("seed", range(4))
def test_features_chunked_equals_whole(seed: int) -> None:
    random = np.random.default_rng(seed)
    stream = FeatureStream(AUDIO)
    windows: list[F32] = []
    samples = _speech()
    cuts = np.sort(random.integers(0, len(samples), 60))
    for piece in np.split(samples, cuts):
        stream.push(piece)
        while len(windows) < FRAMES:
            try:
                windows.append(stream.windows(range(len(windows), len(windows) + 1))[0])
            except NeedMoreAudio:
                break
            stream.trim(len(windows))
    assert np.array_equal(np.stack(windows), _whole())


def test_a_window_shifts_by_four_log_mel_frames_a_video_frame() -> None:
    whole = _whole()
    assert whole.shape == (FRAMES, 80, 64)
    assert np.array_equal(whole[5][:, 4:], whole[6][:, :-4])


def test_silence_before_the_start_is_the_floor() -> None:
    assert (_whole()[0][:, :40] == np.float32((AUDIO.log_floor + 4) / 4)).all()


def test_a_segment_that_starts_later_has_the_same_windows() -> None:
    later = FeatureStream(AUDIO, start_frame=7)
    later.push(_speech())
    assert later.end_sample == 7 * FRAME_SAMPLES + len(_speech())
    assert np.array_equal(later.windows(range(7, 7 + FRAMES)), _whole())


def test_a_frame_waits_for_exactly_its_look_ahead() -> None:
    stream = FeatureStream(AUDIO)
    stream.push(_speech()[: FRAME_SAMPLES + AUDIO.lookahead_samples - 1])
    with pytest.raises(NeedMoreAudio, match="1 more samples"):
        stream.windows(range(0, 1))
    stream.push(np.zeros(1, np.float32))
    assert stream.windows(range(0, 1)).shape == (1, 80, 64)


def test_memory_is_bounded_and_trimmed_frames_are_refused() -> None:
    stream = FeatureStream(AUDIO)
    for frame in range(200):
        stream.push(_speech()[:FRAME_SAMPLES])
        stream.trim(frame)
        assert stream.buffered_frames <= AUDIO.mel_frames + 16
    with pytest.raises(StreamError, match="trimmed"):
        stream.windows(range(150, 151))
