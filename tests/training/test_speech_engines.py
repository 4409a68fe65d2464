"""The synthesisers, where this machine has them."""

from __future__ import annotations

import ctypes
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from engine.media import FRAME_SAMPLES, SAMPLE_RATE_HZ
from training.mouth import CLOSURE, OPENING
from training.speech.corpus import rest_clip, speak, write_corpus
from training.speech.demo import SCRIPTS, demo_speech
from training.speech.engines import (
    Delivery,
    Phone,
    SpeechEngineError,
    Voice,
    scale_time,
    speak_festival,
    speak_flite,
)
from training.speech.espeak_worker import ESPEAK_LIBRARY
from training.speech.visemes import gestures_of


def has_espeak() -> bool:
    try:
        ctypes.CDLL(ESPEAK_LIBRARY)
    except OSError:
        return False
    return True


needs_espeak = pytest.mark.skipif(not has_espeak(), reason=f"needs {ESPEAK_LIBRARY}")
needs_flite = pytest.mark.skipif(shutil.which("flite") is None, reason="needs flite")
needs_festival = pytest.mark.skipif(
    shutil.which("festival") is None, reason="needs festival with festvox-us-slt-hts"
)


def test_time_scaling_moves_the_phones_with_the_sound() -> None:
    samples = np.zeros(22050, np.float32)
    samples[11025:] = 0.5
    scaled = scale_time(samples, [Phone("a", 0.5, 1.0)], 22050, 1.25)
    onset = int(np.argmax(scaled.samples > 0.25)) / SAMPLE_RATE_HZ
    assert len(scaled.samples) == pytest.approx(SAMPLE_RATE_HZ / 1.25, abs=4)
    assert scaled.phones[0].start_s == pytest.approx(0.4, abs=0.001)
    assert onset == pytest.approx(scaled.phones[0].start_s, abs=0.001)


@needs_espeak
@pytest.mark.parametrize(
    ("name", "text", "closures"),
    [
        ("en-us+f2", "a paper map", 4),
        ("cmn-latn-pinyin", "ba4ba5 ma1ma5", 4),
        ("de", "bitte fünf Äpfel", 2),
    ],
)
def test_espeak_says_when_the_lips_close(name: str, text: str, closures: int) -> None:
    (spoken,) = speak([text], Voice("espeak", name, "xx"), Delivery(rate=1.1))
    starts = [phone.start_s for phone in spoken.phones]
    assert starts == sorted(starts)
    assert spoken.phones[-1].end_s <= len(spoken.samples) / SAMPLE_RATE_HZ + 0.01
    assert np.abs(spoken.samples).max() > 0.1
    held = [gesture for gesture in gestures_of("espeak", spoken) if gesture.viseme == "lips"]
    assert len(held) == closures


@needs_espeak
def test_espeak_refuses_a_voice_that_it_has_not() -> None:
    with pytest.raises(SpeechEngineError, match="no voice"):
        speak(["hello"], Voice("espeak", "no-such-voice", "xx"), Delivery())


@needs_flite
def test_flite_and_its_phones_agree_on_the_length() -> None:
    spoken = speak_flite("My mother.", Voice("flite", "rms", "en"), Delivery(vocal_tract=1.1))
    assert [phone.symbol for phone in spoken.phones[1:4]] == ["m", "ay", "m"]
    length = len(spoken.samples) / SAMPLE_RATE_HZ
    assert spoken.phones[-1].end_s == pytest.approx(length, abs=0.1)


@needs_festival
def test_festival_speaks_many_texts_in_one_run() -> None:
    voice = Voice("festival", "cmu_us_slt_arctic_hts", "en")
    spoken = speak_festival(["Big map.", "Two boys."], voice, Delivery())
    symbols = [[phone.symbol for phone in one.phones if phone.symbol] for one in spoken]
    assert symbols == [["b", "ih", "g", "m", "ae", "p"], ["t", "uw", "b", "oy", "z"]]


@needs_espeak
@pytest.mark.parametrize("name", ["zh", "de"])
def test_demo_speech_is_the_same_at_every_call(name: str) -> None:
    first, again = demo_speech(name), demo_speech(name)
    np.testing.assert_array_equal(first.samples, again.samples)
    assert len(first.samples) == len(first.mouth) * FRAME_SAMPLES
    assert len(first.samples_48k) == 3 * len(first.samples)
    assert (first.mouth[:, CLOSURE] == 1).sum() > 10
    assert first.mouth[:10, OPENING].max() < 0.01
    assert set(SCRIPTS) == {"en", "zh", "de"}


def test_rest_clips_keep_the_mouth_at_rest() -> None:
    rng = np.random.default_rng(1)
    for _ in range(5):
        clip = rest_clip(rng)
        assert len(clip.samples) == len(clip.mouth) * FRAME_SAMPLES
        assert not clip.mouth.any()


@needs_espeak
@needs_flite
@needs_festival
def test_a_corpus_repeats_with_its_seed(tmp_path: Path) -> None:
    for folder in ("one", "two"):
        write_corpus(tmp_path / folder, minutes=0.6, seed=11)
    for split in ("train", "sentences", "voices", "language", "engine"):
        one, two = tmp_path / "one" / split, tmp_path / "two" / split
        audio, mouth = np.load(one / "audio.npy"), np.load(one / "mouth.npy")
        assert audio.dtype == np.int16
        assert len(audio) == FRAME_SAMPLES * len(mouth)
        np.testing.assert_array_equal(audio, np.load(two / "audio.npy"))
        np.testing.assert_array_equal(mouth, np.load(two / "mouth.npy"))
        clips = json.loads((one / "clips.json").read_text(encoding="utf-8"))
        assert clips[0]["start"] == 0
        assert clips[-1]["start"] + clips[-1]["frames"] == len(mouth)
