"""Media time over hours, with clients whose clocks are fast or slow, on a simulated clock."""

from __future__ import annotations

import pytest

from benchmarks.clock_drift import Drift, Faults, simulate

LATE_MS = 20  # playout shows a picture this long after its sound, and drops it beyond
START_MS = 40  # of silence until the first packet is full


def _check(drift: Drift) -> None:
    assert 0 <= drift.drift_ms <= START_MS + 20, "media time is the client's own count of its sound"
    assert drift.worst_skew_ms <= LATE_MS
    assert drift.most_waiting_sound_ms < 800 and drift.most_waiting_frames <= 16
    assert drift.unreleased_ms < 800, "what came has left"
    assert abs(drift.silence_ms - drift.dropped_ms - drift.lost_ms - drift.drift_ms) < 1
    assert drift.released_frames + drift.missing_frames > drift.hours * 3600 * 25 * 0.999
    assert drift.missing_frames < 0.01 * drift.released_frames


@pytest.mark.parametrize("ppm", [200, -200])
def test_neither_lips_nor_delay_drift_from_a_client_whose_clock_does(ppm: float) -> None:
    drift = simulate(0.6, ppm)
    assert abs(drift.clocks_apart_ms) > 400
    _check(drift)


@pytest.mark.slow
@pytest.mark.parametrize("ppm", [200, -200])
def test_eight_hours_with_a_client_whose_clock_drifts(ppm: float) -> None:
    drift = simulate(8, ppm)
    assert abs(drift.clocks_apart_ms) > 5000
    _check(drift)
    assert max(drift.delays_ms) - min(drift.delays_ms) < 100, "the delay does not grow"


def test_a_quiet_path_costs_no_sound_at_all() -> None:
    quiet = Faults(jitter_ms=1, burst_every_s=3600, burst_ms=0, loss=0)
    drift = simulate(0.2, 200, quiet)
    assert (drift.lost_ms, drift.silence_ms, drift.dropped_ms) == (0, START_MS, 0)
    assert drift.missing_frames < 0.005 * drift.released_frames, "the engine's own slowest"
