"""What Prometheus reads."""

from __future__ import annotations

from server.metrics import Metrics


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
