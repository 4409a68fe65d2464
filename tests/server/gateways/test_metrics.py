"""The metrics of several gateways on one page."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

from prometheus_client.parser import text_string_to_metric_families

from server.engine_link.messages import EngineCounts
from server.gateways.messages import GatewayState, ServerState
from server.gateways.metrics import merge
from server.metrics.counters import Metrics
from server.metrics.engine import EngineCollector

COUNTS = EngineCounts(busy_s=12.5, cpu_s=14.0, batches={1: 5, 3: 2})


def _gateway(sessions: int, frames: int, counts: EngineCounts | None = COUNTS) -> bytes:
    metrics = Metrics()
    engine = SimpleNamespace(state="ready", restarts=sessions, rss_bytes=1e9, counts=counts)
    metrics.registry.register(EngineCollector(cast(Any, engine)))
    metrics.sessions.set(sessions)
    metrics.frames["synced"].inc(frames)
    metrics.stages["hop"].observe(0.03)
    return metrics.render()


GATEWAYS = (GatewayState(0, True, 2, 0), GatewayState(1, True, 1, 4), GatewayState(2, False, 0, 1))
STATE = ServerState(GATEWAYS, 3, 4, None, engine_restarts=7)


def test_every_sample_says_whose_it_is_and_what_all_share_is_there_once() -> None:
    text = merge({0: _gateway(2, 100), 1: _gateway(1, 50)}, STATE).decode()
    lines = text.splitlines()
    assert 'lipwire_sessions{gateway="0"} 2.0' in lines
    assert 'lipwire_sessions{gateway="1"} 1.0' in lines
    assert 'lipwire_frames_total{gateway="1",kind="synced"} 50.0' in lines
    assert 'lipwire_stage_seconds_bucket{gateway="0",le="0.04",stage="hop"} 1.0' in lines
    engine = [line for line in lines if line.startswith("lipwire_engine_")]
    assert [line for line in engine if "_bucket" not in line] == [
        "lipwire_engine_up 1.0",
        "lipwire_engine_busy_seconds_total 12.5",
        "lipwire_engine_cpu_seconds_total 14.0",
        "lipwire_engine_memory_bytes 1e+09",
        "lipwire_engine_batch_hops_count 7.0",
        "lipwire_engine_batch_hops_sum 11.0",
        "lipwire_engine_restarts_total 7.0",
    ]
    assert 'lipwire_engine_batch_hops_bucket{le="2.0"} 5.0' in engine
    assert len([line for line in lines if line.startswith("lipwire_build_info{")]) == 1
    types = [line for line in lines if line.startswith("# TYPE")]
    assert len(types) == len(set(types)), "each family is described once"
    assert "# TYPE lipwire_frames_total counter" in types


def test_braces_quotes_and_lines_in_texts_stay_what_they_are() -> None:
    metrics = Metrics()
    metrics.denied.labels('a{"b"}\n# HELP x').inc()
    shown = merge({3: metrics.render()}, STATE).decode()
    (family,) = (
        family
        for family in text_string_to_metric_families(shown)
        if family.name == "lipwire_requests_denied"
    )
    (sample,) = family.samples
    assert sample.labels == {"gateway": "3", "code": 'a{"b"}\n# HELP x'} and sample.value == 1


def test_a_gateway_that_is_down_shows_as_down() -> None:
    lines = merge({0: _gateway(0, 0)}, STATE).decode().splitlines()
    assert 'lipwire_gateway_up{gateway="0"} 1.0' in lines
    assert 'lipwire_gateway_up{gateway="2"} 0.0' in lines
    assert 'lipwire_gateway_restarts_total{gateway="1"} 4.0' in lines


def test_a_gateway_that_has_not_heard_of_the_engine_yet_does_not_set_its_counters_back() -> None:
    new, old = _gateway(0, 0, counts=None), _gateway(1, 50)
    lines = merge({0: new, 1: old}, STATE).decode().splitlines()
    assert "lipwire_engine_busy_seconds_total 12.5" in lines


def test_the_gateways_samples_add_up_to_the_servers() -> None:
    """What Prometheus sums over the gateways is what they counted."""
    text = merge({0: _gateway(2, 100), 1: _gateway(1, 50)}, STATE).decode()
    families = {family.name: family for family in text_string_to_metric_families(text)}
    assert sum(sample.value for sample in families["lipwire_sessions"].samples) == 3
    counted = [
        s.value for s in families["lipwire_stage_seconds"].samples if s.name.endswith("_count")
    ]
    assert sum(counted) == 2
