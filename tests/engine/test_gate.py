"""The gate opens before speech, stays through pauses and closes in silence."""

from __future__ import annotations

import numpy as np
import pytest

from engine.gate import FADE_FRAMES, Fade, SpeechActivity
from engine.media import F32, FRAME_SAMPLES


def _speech(frames: int, loud: range, level: float = 0.1) -> F32:
    noise = np.random.default_rng(0).standard_normal(frames * FRAME_SAMPLES).astype(np.float32)
    samples = np.zeros_like(noise)
    span = slice(loud.start * FRAME_SAMPLES, loud.stop * FRAME_SAMPLES)
    samples[span] = level * noise[span]
    return samples


def _answers(samples: F32, frames: int) -> list[bool]:
    activity = SpeechActivity()
    activity.push(samples)
    return [activity.speaking(frame) for frame in range(frames)]


def test_the_gate_opens_two_frames_before_the_sound() -> None:
    answers = _answers(_speech(60, range(20, 25)), 60)
    assert answers.index(True) == 18
    fade = Fade()
    factors = [fade.step(answer) for answer in answers]
    assert factors[17] == 0.0
    assert factors[20] == 1.0


def test_six_tenths_of_a_second_after_speech_the_source_is_back() -> None:
    answers = _answers(_speech(60, range(20, 25)), 60)
    fade = Fade()
    factors = [fade.step(answer) for answer in answers]
    assert factors[25 + 11] == 1.0
    assert factors[25 + 15] == 0.0
    assert not any(factors[25 + 15 :])


def test_a_short_pause_does_not_close_the_gate() -> None:
    samples = _speech(60, range(10, 20)) + _speech(60, range(30, 40))
    assert all(_answers(samples, 60)[10:40])


@pytest.mark.parametrize("level", [0.0, 10 ** (-60 / 20)])
def test_silence_and_faint_noise_are_no_speech(level: float) -> None:
    assert not any(_answers(_speech(40, range(0, 40), level), 36))


def test_a_constant_offset_is_no_speech() -> None:
    assert not any(_answers(np.full(40 * FRAME_SAMPLES, 0.2, np.float32), 36))


def test_speech_activity_chunked_equals_whole() -> None:
    samples = _speech(60, range(12, 18)) + _speech(60, range(40, 45), 0.01)
    random = np.random.default_rng(5)
    for _ in range(5):
        activity = SpeechActivity()
        cuts = np.sort(random.integers(0, len(samples), 30))
        for piece in np.split(samples, cuts):
            activity.push(piece)
        assert [activity.speaking(frame) for frame in range(60)] == _answers(samples, 60)


def test_a_fade_reaches_both_ends_exactly() -> None:
    fade = Fade()
    assert [fade.step(True) for _ in range(FADE_FRAMES)][-1] == 1.0
    assert [fade.step(False) for _ in range(FADE_FRAMES)][-1] == 0.0
