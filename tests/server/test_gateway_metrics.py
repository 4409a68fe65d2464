"""The metrics of several gateways on one page."""

from __future__ import annotations

from server.gateway_messages import GatewayState
from server.gateway_metrics import merge
from server.metrics import Metrics


def _gateway(sessions: int, frames: int) -> bytes:
    metrics = Metrics()
    metrics.watch_engine(lambda: 3, lambda: 0.25, lambda: 1e9)
    metrics.sessions.set(sessions)
    metrics.frames.labels("synced").inc(frames)
    metrics.stage_ms.labels("hop").observe(30)
    return metrics.render()


STATES = (GatewayState(0, True, 2, 0), GatewayState(1, True, 1, 4), GatewayState(2, False, 0, 1))


def test_every_sample_says_whose_it_is_and_what_all_share_is_there_once() -> None:
    text = merge({0: _gateway(2, 100), 1: _gateway(1, 50)}, STATES).decode()
    lines = text.splitlines()
    assert 'lipwire_sessions{gateway="0"} 2.0' in lines
    assert 'lipwire_sessions{gateway="1"} 1.0' in lines
    assert 'lipwire_frames_total{gateway="1",kind="synced"} 50.0' in lines
    assert 'lipwire_stage_ms_bucket{gateway="0",le="40.0",stage="hop"} 1.0' in lines
    assert [line for line in lines if line.startswith("lipwire_engine_")] == [
        "lipwire_engine_restarts 3.0",
        "lipwire_engine_busy 0.25",
        "lipwire_engine_memory_bytes 1e+09",
    ]
    types = [line for line in lines if line.startswith("# TYPE")]
    assert len(types) == len(set(types)), "each family is described once"
    assert "# TYPE lipwire_frames_total counter" in types


def test_a_gateway_that_is_down_shows_as_down() -> None:
    lines = merge({0: _gateway(0, 0)}, STATES).decode().splitlines()
    assert 'lipwire_gateway_up{gateway="0"} 1.0' in lines
    assert 'lipwire_gateway_up{gateway="2"} 0.0' in lines
    assert 'lipwire_gateway_restarts{gateway="1"} 4.0' in lines
