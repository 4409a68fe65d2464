"""Which backend runs and which ones should but do not, for Prometheus."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from server.engine_link.messages import EngineReady


class BackendCollector(Collector):
    """Reads the engine's choice when asked; nothing where no backend runs.

    Args:
        ready: what the engine reported when it was last loaded.
    """

    def __init__(self, ready: Callable[[], EngineReady | None]) -> None:
        self._ready = ready

    def describe(self) -> list[Metric]:
        """Both families, without samples: what they are called must not wait for an engine."""
        return list(_families())

    def collect(self) -> Iterator[Metric]:
        runs, broken = _families()
        ready = self._ready()
        if ready is not None and ready.choice is not None:
            runs.add_metric([ready.backend, ready.choice.reason], 1)
            for item in ready.choice.passed:
                if item.broken:
                    broken.add_metric([item.name, item.reason], 1)
        yield from (runs, broken)


def _families() -> tuple[GaugeMetricFamily, GaugeMetricFamily]:
    return (
        GaugeMetricFamily(
            "lipwire_engine_backend",
            "1: what runs the network, and why",
            labels=["backend", "reason"],
        ),
        GaugeMetricFamily(
            "lipwire_engine_backend_broken",
            "1: a better backend that should run here and does not work",
            labels=["backend", "reason"],
        ),
    )
