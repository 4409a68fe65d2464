"""Mouth tracks from phone timings, without a synthesiser."""

from __future__ import annotations

import numpy as np
import pytest

from engine.media import F32, FPS, FRAME_SAMPLES, SAMPLE_RATE_HZ
from training.mouth import BITE, CLOSURE, OPENING, ROUNDING, WIDTH
from training.speech.phonemes import PAUSE, visemes_of, visemes_of_ipa
from training.speech.utterance import Phone, Utterance
from training.speech.visemes import (
    VISEMES,
    Gesture,
    MouthStyle,
    frames_of,
    gestures_of,
    mouth_track,
)


def tone(seconds: float, quiet: tuple[float, float] | None = None) -> F32:
    time = np.arange(round(seconds * SAMPLE_RATE_HZ)) / SAMPLE_RATE_HZ
    samples = 0.3 * np.sin(2 * np.pi * 150 * time)
    if quiet is not None:
        samples[(time >= quiet[0]) & (time < quiet[1])] = 0.0
    return samples.astype(np.float32)


def track_of(phones: list[tuple[str, float, float]], seconds: float = 1.6) -> F32:
    utterance = Utterance(tone(seconds), tuple(Phone(*phone) for phone in phones), "arpabet")
    return mouth_track(gestures_of(utterance), frames_of(len(utterance.samples)))


def frame_at(seconds: float) -> int:
    return int(seconds * FPS)


@pytest.mark.parametrize("length_s", [0.015, 0.03, 0.06, 0.12])
@pytest.mark.parametrize("start_s", [0.40, 0.413, 0.425])
def test_a_bilabial_closes_fully_however_short(length_s: float, start_s: float) -> None:
    end = start_s + length_s
    track = track_of([("aa", 0.1, start_s), ("m", start_s, end), ("aa", end, 1.0), ("", 1.0, 1.6)])
    held = track[max(0, frame_at(start_s) - 1) : frame_at(end) + 2]
    assert held[:, CLOSURE].max() == 1.0
    assert held[held[:, CLOSURE] == 1.0][:, OPENING].max() == 0.0
    assert track[frame_at(0.3), OPENING] > 0.6
    assert track[frame_at(0.8), OPENING] > 0.6


def test_a_labiodental_bites_and_nearly_closes() -> None:
    track = track_of([("aa", 0.1, 0.5), ("f", 0.5, 0.6), ("aa", 0.6, 1.0), ("", 1.0, 1.6)])
    frame = frame_at(0.55)
    assert track[frame, BITE] > 0.9
    assert track[frame, OPENING] < 0.25
    assert track[frame, CLOSURE] == 0.0


def test_lips_round_before_the_sound() -> None:
    track = track_of([("k", 0.1, 0.5), ("uw", 0.5, 1.0), ("", 1.0, 1.6)])
    before = frame_at(0.5) - 2  # its middle lies 60 ms ahead of the vowel
    assert track[before, ROUNDING] > 0.15
    assert track[before - 4, ROUNDING] < 0.1
    assert track[frame_at(0.75), ROUNDING] > 0.9
    assert track[frame_at(0.75), WIDTH] < -0.7


def test_the_mouth_rests_in_pauses() -> None:
    track = track_of([("", 0.0, 0.4), ("aa", 0.4, 0.7), ("", 0.7, 1.6)])
    assert np.abs(track[: frame_at(0.25)]).max() < 1e-3
    assert np.abs(track[frame_at(0.9) :]).max() < 1e-3


def test_silence_before_a_stop_belongs_to_the_stop() -> None:
    """espeak dates a p at its burst; the lips shut when the vowel's sound ends."""
    samples = tone(1.2, quiet=(0.50, 0.58))
    phones = (Phone("a", 0.1, 0.58), Phone("p", 0.58, 0.61), Phone("a", 0.61, 1.2))
    stop = gestures_of(Utterance(samples, phones, "ipa"))[1]
    assert stop.viseme == "lips"
    assert stop.start_s == pytest.approx(0.50, abs=0.011)
    assert stop.hold_s is not None
    assert stop.hold_s[1] == pytest.approx(0.59, abs=0.011)


def test_lips_part_at_the_burst_inside_a_phone() -> None:
    samples = tone(1.2, quiet=(0.50, 0.57))
    phones = (Phone("aa", 0.1, 0.5), Phone("p", 0.5, 0.65), Phone("aa", 0.65, 1.2))
    stop = gestures_of(Utterance(samples, phones, "arpabet"))[1]
    assert stop.hold_s is not None
    assert stop.hold_s[1] == pytest.approx(0.58, abs=0.011)


def test_style_scales_the_movement_but_not_the_closure() -> None:
    gestures = [Gesture("ah", 0.1, 0.5), Gesture("lips", 0.5, 0.6, (0.5, 0.59))]
    plain = mouth_track(gestures, 30)
    small = mouth_track(gestures, 30, MouthStyle(opening=0.5))
    assert small[:, OPENING].max() == pytest.approx(plain[:, OPENING].max() / 2, rel=1e-4)
    np.testing.assert_array_equal(small[:, CLOSURE], plain[:, CLOSURE])


def test_tracks_stay_in_range_and_last_whole_frames() -> None:
    rng = np.random.default_rng(5)
    names = list(VISEMES)
    edges = np.cumsum(rng.uniform(0.02, 0.15, 80))
    gestures = [
        Gesture(name, edges[i], edges[i + 1], (edges[i], edges[i + 1]) if name == "lips" else None)
        for i, name in enumerate(rng.choice(names, 79))
    ]
    track = mouth_track(gestures, 250)
    assert track.shape == (250, 7)
    assert track.dtype == np.float32
    assert track.max() <= 1.0
    assert track[:, WIDTH].min() >= -1.0
    assert np.delete(track, WIDTH, axis=1).min() >= 0.0
    assert frames_of(FRAME_SAMPLES * 3 + 1) == 4


def test_every_phone_has_a_viseme() -> None:
    for symbol in ("p", "aɪ", "tʃ", "onɡ", "ts.h", "ɐ̃ʊ̃", "ɑːɹ", "ʀ", "ʲ"):
        assert visemes_of_ipa(symbol)
        assert set(visemes_of_ipa(symbol)) <= set(VISEMES)
    assert visemes_of_ipa("aɪ") == ("ah", "ih")
    assert visemes_of_ipa("tʃ") == ("t", "sh")
    assert visemes_of_ipa("(en)") == ()
    assert visemes_of_ipa("") == visemes_of("arpabet", "") == (PAUSE,)
    assert visemes_of("arpabet", "ow") == ("oh", "ou")
    for phone_set in ("arpabet", "ipa"):
        with pytest.raises(KeyError):
            visemes_of(phone_set, "qq☃")
