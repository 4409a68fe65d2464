"""The metrics of several gateways as one page: each sample says whose it is."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

from server.gateway_messages import GatewayState

LABEL = "gateway"
# The same for all: one engine, one admission.
SERVER_WIDE = ("lipwire_engine_", "lipwire_sessions_limit")


def merge(texts: Mapping[int, bytes], gateways: Sequence[GatewayState]) -> bytes:
    """What Prometheus reads of all gateways.

    Args:
        texts: what each that answered would have shown by itself.
        gateways: all that there should be.
    """
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Merged(texts, gateways))
    return generate_latest(registry)


class _Merged(Collector):
    def __init__(self, texts: Mapping[int, bytes], gateways: Sequence[GatewayState]) -> None:
        self._texts = texts
        self._gateways = gateways

    def collect(self) -> Iterable[Metric]:
        families: dict[str, Metric] = {}
        for gateway, text in self._texts.items():
            for family in text_string_to_metric_families(text.decode()):
                shared = family.name.startswith(SERVER_WIDE)
                if shared and family.name in families:
                    continue
                merged = families.setdefault(
                    family.name, Metric(family.name, family.documentation, family.type)
                )
                labels = {} if shared else {LABEL: str(gateway)}
                for sample in family.samples:
                    merged.add_sample(sample.name, {**sample.labels, **labels}, sample.value)
        yield from families.values()
        up = GaugeMetricFamily("lipwire_gateway_up", "The gateway takes calls", labels=[LABEL])
        restarts = GaugeMetricFamily(
            "lipwire_gateway_restarts", "Times that the gateway was replaced", labels=[LABEL]
        )
        for state in self._gateways:
            up.add_metric([str(state.index)], float(state.up))
            restarts.add_metric([str(state.index)], state.restarts)
        yield up
        yield restarts
