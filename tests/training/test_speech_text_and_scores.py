"""Sentences, splits, augmentation and the scores of a mouth track."""

from __future__ import annotations

import numpy as np
import pytest

from engine.media import SAMPLE_RATE_HZ
from training.mouth import CLOSURE, OPENING
from training.speech.augment import (
    crowd_noise,
    level_speech,
    limit_band,
    noise,
    overdrive,
    record,
    reverberate,
)
from training.speech.lossy_codecs import CODECS, through_codec
from training.speech.scores import closure_hits, mouth_scores, rest_frames, runs
from training.speech.sentences import LANGUAGES, babble, is_held_out, sentence
from training.speech.voices import HELD_OUT_LANGUAGE, Split, draw_speaker


@pytest.mark.parametrize("language", LANGUAGES)
def test_sentences_repeat_with_the_seed_and_vary_without(language: str) -> None:
    first = [sentence(language, np.random.default_rng(7)) for _ in range(2)]
    assert first[0] == first[1]
    rng = np.random.default_rng(7)
    assert len({sentence(language, rng) for _ in range(40)}) > 30
    assert "|" not in babble(language, rng)


def test_about_one_sentence_in_twelve_is_held_out() -> None:
    rng = np.random.default_rng(1)
    held_out = [is_held_out(sentence("en", rng)) for _ in range(3000)]
    assert 0.05 < np.mean(held_out) < 0.12


def test_held_out_voices_never_train() -> None:
    rng = np.random.default_rng(2)

    def names(split: Split) -> set[str]:
        return {draw_speaker(split, rng).voice.name for _ in range(2000)}

    train = names("train")
    assert not train & names("voices")
    assert not train & names("engine")
    assert not train & names("neural")
    voices = {draw_speaker("train", rng).voice.language for _ in range(2000)}
    assert HELD_OUT_LANGUAGE not in voices
    assert draw_speaker("language", rng).voice.language == HELD_OUT_LANGUAGE


def test_recording_keeps_length_and_place() -> None:
    rng = np.random.default_rng(3)
    click = np.zeros(SAMPLE_RATE_HZ, np.float32)
    click[8000:8040] = 0.5
    for changed in (reverberate(click, 0.3, 3.0, rng), limit_band(click, 200.0, 3400.0)):
        assert changed.shape == click.shape
        assert abs(int(np.abs(changed).argmax()) - 8020) < 40
    for _ in range(20):
        recorded = record(click, rng, [click, -click])
        assert recorded.shape == click.shape
        assert np.abs(recorded).max() <= 1.0


@pytest.mark.parametrize("name", CODECS)
def test_codecs_keep_speech_in_its_place(name: str) -> None:
    """Three bursts of low noise come back where they were, to the sample."""
    rng = np.random.default_rng(6)
    sound = limit_band(noise(2 * SAMPLE_RATE_HZ, "pink", rng), 200.0, 2500.0) * np.float32(0.1)
    for first in (0, 9000, 20000):
        sound[first : first + 6000] *= 0.01
    codec = CODECS[name]
    for bit_rate in codec.bit_rates or (None,):
        heard = through_codec(sound, codec, bit_rate)
        assert heard.shape == sound.shape
        match = np.correlate(heard, sound[2000:-2000], "valid")
        assert int(match.argmax()) == pytest.approx(2000, abs=1)


def test_a_crowd_has_the_asked_power_and_overdrive_keeps_the_peak() -> None:
    rng = np.random.default_rng(7)
    crowd = [noise(9000, "pink", rng) * np.float32(0.1) for _ in range(3)]
    mix = crowd_noise(2 * SAMPLE_RATE_HZ, crowd, rng)
    assert np.sqrt(np.mean(mix**2)) == pytest.approx(1.0, rel=1e-3)
    tone = 0.5 * np.sin(np.arange(SAMPLE_RATE_HZ) / 10).astype(np.float32)
    hot = overdrive(tone, 12.0)
    assert np.abs(hot).max() == pytest.approx(np.abs(tone).max())
    assert hot.std() > 1.2 * tone.std()


def test_levels_and_noise_have_the_asked_power() -> None:
    rng = np.random.default_rng(4)
    quiet = noise(SAMPLE_RATE_HZ, "pink", rng) * 0.001
    loud = level_speech(quiet)
    assert 20 * np.log10(loud.std()) == pytest.approx(-23, abs=1.0)
    assert not level_speech(np.zeros(640, np.float32)).any()


def test_scores_of_the_truth_are_perfect_and_of_a_constant_are_none() -> None:
    rng = np.random.default_rng(5)
    truth = np.clip(rng.standard_normal((400, 7)), 0, 1).astype(np.float32)
    truth[:, CLOSURE] = 0
    truth[50:53, CLOSURE] = truth[200:202, CLOSURE] = 1
    truth[300:] = 0
    clips = [(0, 250), (250, 150)]
    perfect = mouth_scores(truth, truth, clips)
    assert perfect["opening"] == perfect["closure_recall"] == perfect["closure_precision"] == 1
    assert perfect["rest_opening"] == 0
    assert abs(perfect["shuffled"]) < 0.2
    constant = mouth_scores(np.full_like(truth, 0.3), truth, clips)
    assert constant["opening"] == constant["closure_recall"] == 0
    late = np.roll(truth, 2, axis=0)
    assert mouth_scores(late, truth, clips)["lag_frames"] == 2


def test_closures_count_within_one_frame_and_within_their_clip() -> None:
    truth = np.zeros(20, np.float32)
    truth[[5, 15]] = 1
    predicted = np.zeros(20, np.float32)
    predicted[[6, 10, 17]] = 1
    recall, precision = closure_hits(predicted, truth, [(0, 20)])
    assert recall == pytest.approx(1 / 2)
    assert precision == pytest.approx(1 / 3)
    assert runs(predicted > 0) == [(6, 7), (10, 11), (17, 18)]


def test_rest_leaves_a_margin_around_speech() -> None:
    truth = np.zeros((40, 7), np.float32)
    truth[20, OPENING] = 0.5
    resting = rest_frames(truth)
    assert not resting[15:26].any()
    assert resting[10]
