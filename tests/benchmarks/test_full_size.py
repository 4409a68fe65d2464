"""The full-size conformance run, at a small size here and at its own under `slow`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks import full_size
from benchmarks.full_size import STAGES, main

ROOT = Path(__file__).resolve().parents[2]


def run(tmp_path: Path, *options: str) -> dict[str, Any]:
    assert main([*options, "--json", str(tmp_path / "r.json"), "--work", str(tmp_path)]) == 0
    assert [path.name for path in tmp_path.iterdir()] == ["r.json"]
    report: dict[str, Any] = json.loads((tmp_path / "r.json").read_text())
    assert list(report["stages"]) == list(STAGES)
    return report


def test_every_stage_holds_at_a_small_size(tmp_path: Path) -> None:
    stages = run(tmp_path, "--small", "--threads", "1")["stages"]
    assert (
        stages["network"]["hops_error"] < 1e-4 < stages["network"]["hops_error_without_moments_rms"]
    )


def test_a_stage_is_a_process_whose_memory_is_its_own(tmp_path: Path) -> None:
    result = full_size.run_stage("manifests", tmp_path, small=True, threads=1)
    assert result["ok"] and 0 < result["rss_mb"] <= result["peak_rss_mb"]
    assert not full_size.run_stage("convert", tmp_path, small=True, threads=1)["ok"]


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_every_stage_holds_at_the_published_size(tmp_path: Path) -> None:
    check_memory(run(tmp_path))


def test_the_recorded_run_held_and_stayed_lean() -> None:
    path = ROOT / "benchmarks" / "results" / "full_size.json"
    report = json.loads(path.read_text())
    assert report["ok"] and not report["small"]
    check_memory(report)


def check_memory(report: dict[str, Any]) -> None:
    stages = report["stages"]
    assert stages["load_f32"]["unet_parameters"] == 1_267_099_844
    stored = stages["convert"]["stored_bytes"] / 1e6
    convert = stages["convert"]["peak_rss_mb"] - stages["convert"]["rss_before_mb"]
    assert convert < 0.5 * stored
    for name in ("load_f32", "load_bf16"):
        load = stages[name]["peak_rss_mb"] - stages[name]["rss_before_mb"]
        assert load < stages[name]["weights_mb"] + 700
