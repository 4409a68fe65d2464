"""The measuring tools of the latency benchmark."""

from __future__ import annotations

import numpy as np

from benchmarks.caller import SOUND_HZ, draw_mark, read_mark
from benchmarks.latency import CLICK_EVERY, CLICK_PEAK, SPEECH_PEAK, Spread, speech_with_clicks


def test_a_mark_is_read_as_it_was_drawn_even_after_noise() -> None:
    dice = np.random.default_rng(1)
    for number in (0, 1, 1365, 2730, 4095):
        picture = dice.integers(0, 255, (360, 320), np.uint8)
        draw_mark(picture, number)
        noisy = picture.astype(np.int16) + dice.integers(-40, 40, picture.shape)
        assert read_mark(np.clip(noisy, 0, 255).astype(np.uint8)[:240]) == number


def test_clicks_stand_out_of_the_speech() -> None:
    samples, places = speech_with_clicks(7.0, None)
    assert len(samples) == 7 * SOUND_HZ
    loud = np.abs(samples.astype(np.int32)) > SPEECH_PEAK
    assert np.abs(samples.astype(np.int32)).max() >= CLICK_PEAK * 0.95
    assert {int(at) // CLICK_EVERY for at in np.flatnonzero(loud)} == {1, 2, 3}
    assert len(places) == 3


def test_a_spread_of_nothing_is_nothing() -> None:
    assert Spread.of([]) == Spread(None, None, None, 0)
    assert Spread.of([1.0, 2.0, 3.0]).p50 == 2.0
