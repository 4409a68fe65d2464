"""What Prometheus reads of the backend that runs."""

from __future__ import annotations

import dataclasses

from prometheus_client import CollectorRegistry, generate_latest

from engine.backends.availability import BackendChoice, PassedOver
from server.engine_link.messages import EngineReady
from server.metrics.backend import BackendCollector

READY = EngineReady("m", "openvino-bf16", 128, 4, 1320, 30.0)
PASSED = (
    PassedOver("tensorrt", "unsupported", "not there", "nothing"),
    PassedOver("torch-cuda", "driver", "no device", "nvidia-smi"),
)


def _page(ready: EngineReady | None) -> list[str]:
    registry = CollectorRegistry()
    registry.register(BackendCollector(lambda: ready))
    return generate_latest(registry).decode().splitlines()


def test_a_broken_backend_can_be_alerted_on_and_one_that_is_merely_absent_is_left_out() -> None:
    choice = BackendChoice("openvino", asked=False, passed=PASSED)
    lines = _page(dataclasses.replace(READY, choice=choice))
    assert 'lipwire_engine_backend{backend="openvino-bf16",reason="broken"} 1.0' in lines
    broken = [line for line in lines if line.startswith("lipwire_engine_backend_broken{")]
    assert broken == ['lipwire_engine_backend_broken{backend="torch-cuda",reason="driver"} 1.0']


def test_before_an_engine_is_ready_there_are_no_samples() -> None:
    for ready in (None, READY):
        assert all(line.startswith("#") for line in _page(ready))
