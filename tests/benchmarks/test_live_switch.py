"""A call over WebRTC while the server's backend changes: nothing is late, nothing is missing."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path

import pytest

from benchmarks.backend_switch import measure_call


@pytest.mark.slow
@pytest.mark.timeout(900)  # a build of low priority
def test_a_call_loses_neither_pictures_nor_sound_when_another_backend_takes_over(
    tiny_onnx_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("LIPWIRE_PLAN_CACHE")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    found = asyncio.run(measure_call(port, "anna", str(tiny_onnx_model)))
    before, after = found["backends"]
    assert before.startswith("onnxruntime") and after.startswith("openvino")
    around = found["stretches"]["around"]
    assert around["lost_sound_ms"] == 0
    assert (around["late_hops"], around["missing_pictures"]) == (0, 0)
    assert around["longest_sound_gap_ms"] < 200 and around["longest_gap_ms"] < 200
