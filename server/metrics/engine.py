"""The engine's own figures, for Prometheus: what it has computed, in which batches, at what cost.

The engine counts and says so with every sign of life; a gateway shows what it heard last. So all
gateways show the same figures, at most two seconds apart.
"""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from server.engine_link.host import EngineHost
from server.engine_link.messages import EngineCounts

BATCH_BUCKETS = (1, 2, 4, 8, 16)  # hops; the sizes that CUDA graphs are captured for


class EngineCollector(Collector):
    """Reads an engine's figures when asked."""

    def __init__(self, engine: EngineHost) -> None:
        self._engine = engine

    def collect(self) -> Iterator[Metric]:
        engine, counts = self._engine, self._engine.counts
        yield GaugeMetricFamily(
            "lipwire_engine_up",
            "1: the engine computes, 0: it is being started",
            engine.state == "ready",
        )
        yield CounterMetricFamily(
            "lipwire_engine_restarts", "Engine processes replaced", engine.restarts
        )
        if counts is None:  # zeros would look like an engine that began anew
            return
        yield CounterMetricFamily(
            "lipwire_engine_busy_seconds", "Time that the engine spent computing", counts.busy_s
        )
        yield CounterMetricFamily(
            "lipwire_engine_cpu_seconds", "Processor time of the engine process", counts.cpu_s
        )
        yield GaugeMetricFamily(
            "lipwire_engine_memory_bytes", "Largest resident memory so far", engine.rss_bytes
        )
        yield _batches(counts)


def _batches(counts: EngineCounts) -> HistogramMetricFamily:
    buckets = [
        (str(float(bound)), sum(n for size, n in counts.batches.items() if size <= bound))
        for bound in BATCH_BUCKETS
    ]
    buckets.append(("+Inf", sum(counts.batches.values())))
    hops = sum(size * n for size, n in counts.batches.items())
    return HistogramMetricFamily(
        "lipwire_engine_batch_hops", "Hops that the network computed at once", buckets, hops
    )
