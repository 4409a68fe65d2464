"""Sessions on a virtual clock, over a backend whose hops take what the test says."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from benchmarks import gpu_latency
from benchmarks.gpu_latency import largest_session_count
from benchmarks.virtual_load import LoadFigures, run_load
from engine.backends.base import GeneratedHop, HopInput
from tests.fakes import FakeBackend, fake_avatar

CALL_S, HOP_S = 0.002, 0.010


class ManualClock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class SlowBackend(FakeBackend):
    """A call takes 2 ms and 10 ms a hop of its batch, on the test's clock."""

    max_batch = 4

    def __init__(self, clock: ManualClock) -> None:
        super().__init__()
        self.clock = clock

    def run_hop(self, batch: Sequence[HopInput]) -> list[GeneratedHop]:
        self.clock.now += CALL_S + HOP_S * len(batch)
        return super().run_hop(batch)


def load(sessions: int, seconds: float = 3.0) -> LoadFigures:
    clock = ManualClock()
    return run_load(
        SlowBackend(clock), fake_avatar(), hop=4, sessions=sessions, seconds=seconds, clock=clock
    )


def test_one_session_waits_for_its_own_hop_only() -> None:
    figures = load(1)
    assert figures.keeps_up
    assert figures.hops == pytest.approx(3.0 * 25 / 4, abs=1)
    # A hop is found due at most one packet after it is.
    assert figures.latency_ms_p50 == pytest.approx(1e3 * (CALL_S + HOP_S), abs=0.1)
    assert figures.hop_ms_p99 == pytest.approx(1e3 * (CALL_S + HOP_S), abs=1e-3)
    assert figures.network_share == pytest.approx((CALL_S + HOP_S) / 0.16, rel=0.05)
    assert figures.late_hops == figures.behind == 0


def test_sessions_share_calls_and_wait_for_each_other() -> None:
    few, many = load(2), load(12)
    assert many.mean_batch > few.mean_batch >= 1.0
    assert few.latency_ms_p95 is not None and many.latency_ms_p95 is not None
    assert many.latency_ms_p95 > few.latency_ms_p95
    assert many.keeps_up  # 12 x 10 ms and the calls' own 2 ms fit into 160 ms


def test_more_sessions_than_fit_are_found_out() -> None:
    figures = load(24)
    assert not figures.keeps_up
    assert figures.late_hops > 0
    assert figures.busy_share == pytest.approx(1.0, abs=0.01)


def test_the_largest_count_is_found_by_doubling_and_halving() -> None:
    count, tried = largest_session_count(lambda sessions: load(sessions, 2.0), 64)
    assert 12 <= count <= 16
    assert [figures.sessions for figures in tried[:5]] == [1, 2, 4, 8, 16]
    assert all(figures.keeps_up == (figures.sessions <= count) for figures in tried)


def test_the_search_ends_where_there_is_no_time() -> None:
    assert largest_session_count(lambda sessions: None, 64) == (0, [])


def test_entry_6_runs_small(tmp_path: Path) -> None:
    arguments = ["--size", "tiny", "--resolution", "32", "--device", "cpu", "--codec", "tiny"]
    arguments += ["--steps", "1", "--hops", "8", "--sessions", "1", "--seconds", "1"]
    arguments += ["--picture", "96", "--out", str(tmp_path)]
    assert gpu_latency.main(arguments) == 0
    figures = json.loads((tmp_path / "gpu_latency.json").read_text(encoding="utf-8"))
    (row,) = figures["load"]
    assert row["hops"] > 0 and row["latency_ms_p50"] >= row["hop_ms_p50"] * 0.5
    assert figures["largest"][0]["hop"] == 8
