"""How many calls a machine holds, from what hops and calls cost."""

from __future__ import annotations

import math

import pytest

from server.capacity.machine import (
    CORES_SHARE,
    ENGINE_SHARE,
    GATEWAY_SHARE,
    HopCost,
    measured_capacity,
)


def test_the_part_that_holds_least_decides() -> None:
    hops = [HopCost(1, 34.0, 34.0)]
    capacity = measured_capacity(hops, hop_frames=4, call_ms=100.0, gateways=1, cores=8)
    assert capacity.engine == pytest.approx(ENGINE_SHARE * 160 / 34)  # 4.0
    assert capacity.gateways == pytest.approx(GATEWAY_SHARE * 10)  # 7.5
    assert capacity.cores == pytest.approx(CORES_SHARE * 8000 / (100 + 34 * 6.25))
    assert capacity.sessions == 4
    assert capacity.explain() == (
        "this machine holds 4 calls at 25 fps: engine 4.0, gateways 7.5, cores 23.0"
    )


def test_few_cores_are_shared_by_engine_and_gateways() -> None:
    hops = [HopCost(1, 32.0, 32.0)]
    capacity = measured_capacity(hops, hop_frames=4, call_ms=200.0, gateways=4, cores=1)
    assert capacity.sessions == 2 == math.floor(CORES_SHARE * 1000 / 400)


def test_a_gpu_is_measured_by_its_batches_and_costs_no_cores() -> None:
    hops = [HopCost(1, 20.0, 1.0), HopCost(2, 22.0, 1.0), HopCost(4, 28.0, 1.0)]
    limit_ms = ENGINE_SHARE * 160
    one = measured_capacity(hops[:1], 4, 10.0, 8, 64)
    assert one.engine == pytest.approx(limit_ms / 20)
    whole = measured_capacity(hops, 4, 10.0, 8, 64)
    assert whole.engine == pytest.approx(4 * limit_ms / 28)
    assert whole.cores > 500


def test_a_time_between_two_batches_is_read_between_them() -> None:
    hops = [HopCost(1, 100.0, 0.0), HopCost(2, 172.0, 0.0)]
    capacity = measured_capacity(hops, 4, 1.0, 1, 64)
    assert capacity.engine == pytest.approx(1.5)  # 136 ms is half way from 100 to 172


def test_a_machine_that_is_too_slow_for_one_call_takes_one() -> None:
    capacity = measured_capacity([HopCost(1, 400.0, 400.0)], 4, 100.0, 1, 2)
    assert capacity.engine < 1 and capacity.sessions == 1
    assert "one call" in capacity.explain()


def test_an_engine_without_a_network_does_not_count() -> None:
    capacity = measured_capacity([], 1, 150.0, 2, 4)
    assert capacity.sessions == 10
    assert "engine" not in capacity.explain()
    assert capacity.describe() == {"engine": None, "gateways": 10.0, "cores": 24.0}
