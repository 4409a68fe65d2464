"""All that a server can expose to Prometheus: names, and the labels of each."""

from __future__ import annotations

import re
from collections import defaultdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from prometheus_client.parser import text_string_to_metric_families

from engine.backends.availability import BackendChoice, PassedOver
from engine.plans.cache import PlanCache
from server.engine_link.messages import EngineCounts, EngineReady
from server.gateways.messages import GatewayState, ServerState
from server.gateways.metrics import merge
from server.metrics.backend import BackendCollector
from server.metrics.counters import Metrics
from server.metrics.engine import EngineCollector
from server.metrics.plans import PlanCollector

STATE = ServerState((GatewayState(0, True, 0, 0),), 0, 1, None, 0)
PASSED = (PassedOver("torch-cuda", "driver", "it is broken", "mend it"),)


def full_page() -> str:
    """A page of several gateways on which each series that can be there has a sample."""
    metrics = Metrics()
    choice = BackendChoice("fake", asked=False, passed=PASSED)
    ready = EngineReady("m", "fake", 0, 1, 0, 0.0, choice=choice)
    counts = EngineCounts(1.0, 1.0, {1: 1})
    engine = SimpleNamespace(state="ready", restarts=0, rss_bytes=1, counts=counts)
    metrics.registry.register(BackendCollector(lambda: ready))
    metrics.registry.register(EngineCollector(cast(Any, engine)))
    metrics.registry.register(PlanCollector(lambda: ready, PlanCache(Path("nowhere"))))
    metrics.ended.labels("webrtc", "client").inc()
    metrics.refused.labels("server_full").inc()
    metrics.denied.labels("no_token").inc()
    return merge({0: metrics.render()}, STATE).decode()


def exposed_names() -> set[str]:
    """Names of all families, as they stand in documents: counters with `_total`."""
    return set(re.findall(r"^# TYPE (\w+)", full_page(), re.MULTILINE))


def exposed_labels() -> dict[str, set[str]]:
    """Labels of each series and of each family, `gateway` and `le` left out.

    Series of a histogram are there by their own names too: `_bucket`, `_count`, `_sum`.
    """
    found: dict[str, set[str]] = defaultdict(set)
    for family in text_string_to_metric_families(full_page()):
        for sample in family.samples:
            labels = set(sample.labels) - {"gateway", "le"}
            found[sample.name] |= labels
            found[family.name] |= labels
    return dict(found)
