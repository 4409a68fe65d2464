"""The plan benchmark reports what it built, and what it could not."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.tensorrt_plans import main
from tests.tiny_models import make_tiny_model

pytest.importorskip("tensorrt_rtx", reason="tensorrt-rtx has wheels for Linux on x86_64 only")


def test_a_plans_size_memory_and_seconds_are_reported_and_nothing_else_is_kept(
    tmp_path: Path,
) -> None:
    make_tiny_model(tmp_path / "model")
    work, result = tmp_path / "work", tmp_path / "result.json"
    work.mkdir()
    given = ["--model", str(tmp_path / "model"), "--components", "encoder", "--precisions", "f16"]
    assert main([*given, "--work", str(work), "--json", str(result)]) == 0
    (plan,) = json.loads(result.read_text())["plans"]
    assert plan["component"] == "encoder" and plan["precision"] == "f16"
    assert plan["plan_mb"] > 0 and plan["peak_rss_mb"] >= plan["export_peak_rss_mb"] > 0
    assert list(work.iterdir()) == []


def test_a_model_that_is_not_there_is_a_case_that_failed(tmp_path: Path) -> None:
    result = tmp_path / "result.json"
    given = ["--model", str(tmp_path / "none"), "--components", "encoder", "--precisions", "f16"]
    assert main([*given, "--work", str(tmp_path), "--json", str(result)]) == 1
    (plan,) = json.loads(result.read_text())["plans"]
    assert plan["error"] == "the process ended with status 1"
