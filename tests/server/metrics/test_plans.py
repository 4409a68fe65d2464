"""What Prometheus reads of compiled graphs."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

from prometheus_client import CollectorRegistry, generate_latest

from engine.plans.cache import PlanCache
from server.engine_link.messages import EngineReady
from server.engine_link.plan_counts import PlanCounter, PlanCounts
from server.metrics.plans import PlanCollector
from tests.toy_plans import BLOB_FILE, ToyMaker, toy_key

READY = EngineReady("m", "openvino-bf16", 128, 4, 1320, 30.0)


def page(ready: EngineReady | None, plans: PlanCache | None) -> dict[str, float]:
    registry = CollectorRegistry()
    registry.register(PlanCollector(lambda: ready, plans))
    lines = generate_latest(registry).decode().splitlines()
    pairs = (line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
    return {name: float(value) for name, value in pairs}


def test_loads_builds_rejections_and_the_size_of_the_cache_are_shown(tmp_path: Path) -> None:
    times = iter([10.0, 12.5, 20.0, 21.0])
    counter = PlanCounter(clock=lambda: next(times))
    plans = PlanCache(tmp_path, watcher=counter)
    for _ in range(3):
        plans.open(toy_key(), ToyMaker()).close()
    os.truncate(tmp_path / toy_key().digest() / BLOB_FILE, 3)
    plans.open(toy_key(), ToyMaker()).close()
    shown = page(dataclasses.replace(READY, plans=counter.counts), plans)
    assert shown['lipwire_engine_plans_total{source="built"}'] == 2
    assert shown['lipwire_engine_plans_total{source="loaded"}'] == 2
    assert shown["lipwire_engine_plan_build_seconds_total"] == 3.5
    assert shown['lipwire_engine_plans_rejected_total{reason="damaged"}'] == 1
    assert shown['lipwire_engine_plans_rejected_total{reason="golden"}'] == 0
    assert shown["lipwire_engine_plans_bytes"] == plans.plans()[0].size_bytes


def test_without_a_cache_or_an_engine_nothing_is_made_up(tmp_path: Path) -> None:
    assert page(READY, None) == {}
    assert page(None, PlanCache(tmp_path)) == {"lipwire_engine_plans_bytes": 0.0}


def test_counts_of_two_processes_add_up() -> None:
    beside = PlanCounts(built=4, rejected={"disk": 1}, build_s=60.0)
    total = PlanCounts(loaded=5, rejected={"disk": 1, "golden": 2}) + beside
    assert total == PlanCounts(5, 4, {"disk": 2, "golden": 2}, 60.0)
