"""What happened to compiled graphs, and how much of the disk they take, for Prometheus."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import get_args

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from engine.plans.cache import PlanCache
from engine.plans.events import RejectionReason
from server.engine_link.messages import EngineReady


class PlanCollector(Collector):
    """Reads the engine's counts and the cache's folder when asked; nothing where none is kept.

    Args:
        ready: what the engine reported last; its counts begin anew with the engine.
        plans: the cache of the settings.
    """

    def __init__(self, ready: Callable[[], EngineReady | None], plans: PlanCache | None) -> None:
        self._ready = ready
        self._plans = plans

    def collect(self) -> Iterator[Metric]:
        plans, ready = self._plans, self._ready()
        if plans is None:
            return
        yield GaugeMetricFamily(
            "lipwire_engine_plans_bytes", "Compiled graphs on the disk", plans.size_bytes()
        )
        if ready is None:
            return
        counts = ready.plans
        opened = CounterMetricFamily(
            "lipwire_engine_plans",
            "Compiled graphs opened: loaded from the disk, or built",
            labels=["source"],
        )
        opened.add_metric(["loaded"], counts.loaded)
        opened.add_metric(["built"], counts.built)
        yield opened
        rejected = CounterMetricFamily(
            "lipwire_engine_plans_rejected",
            "Compiled graphs on the disk that could not be trusted",
            labels=["reason"],
        )
        for reason in get_args(RejectionReason):
            rejected.add_metric([reason], counts.rejected.get(reason, 0))
        yield rejected
        yield CounterMetricFamily(
            "lipwire_engine_plan_build_seconds", "Time spent compiling graphs", counts.build_s
        )
