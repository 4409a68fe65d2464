"""What Prometheus reads."""

from __future__ import annotations

import re
from pathlib import Path

from server.backend_metrics import BackendCollector
from server.engine_messages import EngineReady
from server.gateway_metrics import merge
from server.metrics import Metrics

OPERATIONS = Path(__file__).resolve().parents[2] / "docs" / "operations.md"


def test_two_servers_in_one_process_count_apart() -> None:
    first, second = Metrics(), Metrics()
    first.late_hops.inc(3)
    first.dropped.labels("playout", "late").inc()
    first.stage_ms.labels("frame").observe(300)
    first.watch_engine(lambda: 2, lambda: 0.5, lambda: 1000)
    text = first.render().decode()
    assert "lipwire_late_hops_total 3.0" in text
    assert 'lipwire_dropped_total{queue="playout",reason="late"} 1.0' in text
    assert 'lipwire_stage_ms_bucket{le="320.0",stage="frame"} 1.0' in text
    assert "lipwire_engine_restarts 2.0" in text and "lipwire_engine_busy 0.5" in text
    assert "lipwire_late_hops_total 0.0" in second.render().decode()


def _exposed() -> set[str]:
    """Names of all metrics, of one gateway and of several."""
    metrics = Metrics()
    ready = EngineReady("m", "fake", 0, 1, 0, 0.0)
    metrics.registry.register(BackendCollector(lambda: ready))
    text = merge({0: metrics.render()}, []).decode()
    names = {line.split()[2] for line in text.splitlines() if line.startswith("# TYPE")}
    return {name for name in names if not name.endswith("_created")}


def _documented() -> set[str]:
    """Names in the first column of the table in operations.md."""
    section = OPERATIONS.read_text(encoding="utf-8").split("## Metrics", 1)[1].split("\n## ", 1)[0]
    first = [line.split("|")[1] for line in section.splitlines() if line.startswith("| `")]
    return {name for cell in first for name in re.findall(r"`(lipwire_\w+)", cell)}


def test_every_metric_is_documented_and_every_documented_metric_exists() -> None:
    assert _documented() == _exposed()
    assert len(_exposed()) > 12
