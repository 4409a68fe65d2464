"""What the real drift benchmark makes of what it saw."""

from __future__ import annotations

import asyncio
import json

import pytest

from benchmarks.real_drift import (
    CLICK_EVERY_S,
    SETTLE_S,
    WINDOW_S,
    Observed,
    SkewedClock,
    click_delay_ms,
    figures_of,
    window_medians,
)


def test_a_fast_clock_shows_a_time_early() -> None:
    clock = SkewedClock(200)
    assert clock.when(1000) - clock.began == pytest.approx(1000 - 0.2, abs=1e-3)


@pytest.mark.parametrize("ppm", [200, -200])
def test_a_click_is_told_from_the_one_before_however_far_clocks_are_apart(ppm: float) -> None:
    clock = SkewedClock(ppm)
    for turn in (1, 500, 900, 5000):  # of half a minute to hours
        heard = clock.when(turn * CLICK_EVERY_S) + 0.2
        assert click_delay_ms(clock, heard) == pytest.approx(200, abs=1e-3)


def test_a_time_that_has_passed_is_not_waited_for() -> None:
    clock = SkewedClock(-200)
    asyncio.run(clock.wait_until(-1.0))


def test_a_window_without_values_has_no_median() -> None:
    assert window_medians([(10.0, 1.0), (11.0, 3.0), (12.0, 2.0)], 10.0, 2) == [2.0, None]


def test_a_call_that_falls_silent_is_said_to_have_missed_its_sound() -> None:
    times = [0.5 * step for step in range(int(2 * (2 * WINDOW_S + SETTLE_S)))]
    seen = Observed(
        sound=[(at, 340.0) for at in times if at < WINDOW_S],
        picture=[(at, 340.0) for at in times],
        playout=[(at, 300.0) for at in times],
        last_stats={},
    )
    figures = figures_of(seen, 200, minutes=10)
    assert figures["missing"] == ["clicks in minutes 5 to 10"]
    assert figures["sound_drift_ms"] is None
    json.dumps(figures, allow_nan=False)


def test_a_call_in_which_nothing_came_says_so() -> None:
    assert figures_of(Observed([], [], [], {}), 200, 30)["missing"] == ["anything at all"]


def test_a_delay_that_follows_the_clocks_apart_is_shown_as_drift() -> None:
    minutes = 15.0
    times = [SETTLE_S + 0.5 * step for step in range(int(2 * WINDOW_S * 3))]
    seen = Observed(
        sound=[(at, 340 + 200e-3 * at) for at in times[:: int(CLICK_EVERY_S * 2)]],
        picture=[(at - SETTLE_S, 300 + 200e-3 * at) for at in times] + [(920.0, 500.0)],
        playout=[(at, 300.0) for at in times],
        last_stats={},
    )
    figures = figures_of(seen, 200, minutes)
    assert figures["missing"] == []
    assert figures["clocks_apart_ms"] == 120
    assert figures["sound_drift_ms"] == pytest.approx(120, abs=2)
    assert figures["picture_minus_sound_drift_ms"] == pytest.approx(0, abs=5)
