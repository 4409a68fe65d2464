"""The measuring tools of the latency benchmark."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from benchmarks.caller import SOUND_HZ, draw_mark, read_mark
from benchmarks.latency import (
    CLICK_EVERY,
    CLICK_PEAK,
    SPEECH_PEAK,
    Spread,
    report_of,
    speech_with_clicks,
)
from benchmarks.report import render_html, show

RESULT = Path(__file__).resolve().parents[2] / "benchmarks/results/latency_avatar.json"


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


def test_the_page_shows_the_figures_of_a_call() -> None:
    figures = json.loads(RESULT.read_text())
    page = render_html(report_of(figures, ["--seconds", "20"]))
    assert "lipwire bench latency --seconds 20" in page
    for figure in (*figures["video_latency_ms"].values(), figures["fps"]):
        assert f"<td class=n>{show(figure)}</td>" in page
