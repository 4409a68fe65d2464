"""The export of the published size: small in every run, the real one among the slow tests."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.export_size import main

MOST_MB = 9_000  # torch's weights in f32 are 5.1 GB of it, for the check


def test_a_small_network_is_exported_in_a_process_of_its_own_and_measured(tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    given = ["--small", "--component", "audio", "--precision", "bf16", "--hop", "2"]
    assert main([*given, "--work", str(tmp_path), "--json", str(path)]) == 0
    result = json.loads(path.read_text())
    assert result["passed"] and result["worst"]["relative"] < result["tolerance"]
    assert set(result["files_mb"]) == {"audio_encoder.onnx", "audio_encoder.safetensors"}
    assert [step.split(": ")[1].split()[0] for step in result["steps"]] == [
        "tracing",
        "constants",
        "torch's",
        "torch",
        "openvino",
    ]
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.slow
def test_the_published_unet_is_exported_within_its_memory(tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    given = ["--component", "unet", "--precision", "f16", "--work", str(tmp_path)]
    assert main([*given, "--json", str(path)]) == 0
    result = json.loads(path.read_text())
    assert result["parameters"] == 1_267_099_844
    assert result["peak_rss_mb"] < MOST_MB
