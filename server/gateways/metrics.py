"""The metrics of several gateways as one page: each sample says whose it is."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import h11
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from server.gateways.http_client import OWN_METRICS, fetch, gateway_socket
from server.gateways.messages import ServerState

LABEL = "gateway"
ANSWER_TIMEOUT_S = 1.0
# The same for all: one release, one engine, one admission.
SERVER_WIDE = ("lipwire_build_info", "lipwire_engine_", "lipwire_sessions_limit")
# A gateway that was replaced itself has not seen them all.
BY_SUPERVISOR = "lipwire_engine_restarts_total"


def merge(texts: Mapping[int, bytes], state: ServerState) -> bytes:
    """What Prometheus reads of all gateways.

    Line by line: to parse four pages and write them anew takes an event loop from its calls for
    longer than a packet of sound lasts.

    Args:
        texts: what each that answered would have shown by itself, as `generate_latest` writes it.
        state: the whole server, as its supervisor last told it.
    """
    families: dict[str, list[str]] = {}
    for gateway, text in texts.items():
        label = f'{LABEL}="{gateway}"'
        for block in f"\n{text.decode().rstrip()}".split("\n# HELP ")[1:]:
            family = block[: block.index(" ")]
            shared = family.startswith(SERVER_WIDE)
            if family == BY_SUPERVISOR or (shared and family in families):
                continue
            help_line, type_line, *samples = block.split("\n")
            lines = families.setdefault(family, [f"# HELP {help_line}", type_line])
            lines += samples if shared else [_labelled(sample, label) for sample in samples]
    merged = "".join(f"{line}\n" for lines in families.values() for line in lines)
    return merged.encode() + _of_supervisor(state)


def _labelled(sample: str, label: str) -> str:
    """The line of a sample with one more label, the first."""
    name, brace, rest = sample.partition("{")
    if brace:
        return f"{name}{{{label},{rest}"
    name, _, value = sample.partition(" ")
    return f"{name}{{{label}}} {value}"


def _of_supervisor(state: ServerState) -> bytes:
    """What only the supervisor knows, as text."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Supervised(state))
    return generate_latest(registry)


class ServerMetrics:
    """The page of metrics of the whole server, made by one gateway.

    Args:
        own: its index.
        folder: where the gateways' sockets are.
        state: the whole server, as last told.
        metrics: its own page.
    """

    def __init__(
        self,
        own: int,
        folder: Path,
        state: Callable[[], ServerState],
        metrics: Callable[[], bytes],
    ) -> None:
        self._own = own
        self._folder = folder
        self._state = state
        self._metrics = metrics

    async def __call__(self) -> bytes:
        """The metrics of all gateways that answer in time."""
        state = self._state()
        others = [other.index for other in state.gateways if other.up and other.index != self._own]
        texts = await asyncio.gather(*(self._metrics_of(other) for other in others))
        found = {self._own: self._metrics()}
        found |= {
            other: text for other, text in zip(others, texts, strict=True) if text is not None
        }
        return merge(found, state)

    async def _metrics_of(self, gateway: int) -> bytes | None:
        socket = gateway_socket(self._folder, gateway)
        try:
            return await fetch(socket, OWN_METRICS, ANSWER_TIMEOUT_S)
        except (OSError, TimeoutError, h11.RemoteProtocolError):
            return None


class _Supervised(Collector):
    def __init__(self, state: ServerState) -> None:
        self._state = state

    def collect(self) -> Iterable[Metric]:
        up = GaugeMetricFamily("lipwire_gateway_up", "The gateway takes calls", labels=[LABEL])
        restarts = CounterMetricFamily(
            "lipwire_gateway_restarts", "Times that the gateway was replaced", labels=[LABEL]
        )
        for state in self._state.gateways:
            up.add_metric([str(state.index)], float(state.up))
            restarts.add_metric([str(state.index)], state.restarts)
        yield up
        yield restarts
        replaced = self._state.engine_restarts
        yield CounterMetricFamily("lipwire_engine_restarts", "Engine processes replaced", replaced)
