"""The command that times TensorRT's plans, small: on a fake GPU, and on none."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks import gpu_tensorrt
from benchmarks.gpu_tensorrt import RESERVE_S, Case, cases, main, measured
from benchmarks.measure import Deadline
from benchmarks.plan_figures import NETWORKS, Device
from engine.plan_runtime.hop_way import plans_of
from tests.fake_plans import FakeGpu, Machine
from tests.tiny_models import TINY_SPEC

PLANS = plans_of(TINY_SPEC, TINY_SPEC.hop_frames)

# What the tiny model is run as.
WAY = [
    "--size",
    "tiny",
    "--mode",
    "causal",
    "--steps",
    "1",
    "--hop",
    "4",
    "--batches",
    "1",
    "2",
    "4",
]
SHORT = ["--rounds", "2", "--limit-s", "0.1", "--precisions", "f32"]


class FakeMachine:
    """Runs cases here, on a fake GPU with fake packages."""

    def __init__(self, tiny_gpu: FakeGpu) -> None:
        self.machine = Machine(tiny_gpu, None)
        self.given: list[tuple[str, float]] = []

    def run(self, options: argparse.Namespace, case: Case, seconds: float) -> dict[str, Any]:
        self.given.append((str(case), seconds))
        gpu = self.machine.gpu
        device = Device(lambda: gpu.cuda, lambda name: gpu.api, self.machine.build)
        path = options.work / "case.json"
        measured(options, case, device, path)
        figures: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return figures


@pytest.fixture
def fake(tiny_gpu: FakeGpu, tmp_path: Path) -> FakeMachine:
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "model").symlink_to(tiny_gpu.served.model_dir)
    return FakeMachine(tiny_gpu)


def figures_of(fake: FakeMachine, tmp_path: Path, *more: str) -> dict[str, Any]:
    folders = ["--out", str(tmp_path / "out"), "--work", str(tmp_path / "work")]
    assert main([*WAY, *SHORT, *folders, *more], fake.run) == 0
    text = (tmp_path / "out" / "gpu_tensorrt.json").read_text(encoding="utf-8")
    figures: dict[str, Any] = json.loads(text)
    return figures


def test_plans_are_built_loaded_checked_and_timed_beside_torch(
    fake: FakeMachine, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    figures = figures_of(fake, tmp_path, "--runtimes", "tensorrt", "torch")
    ours, theirs = figures["cases"]
    assert [ours["case"], theirs["case"]] == ["tensorrt:f32", "torch:f32"]
    assert sorted(fake.machine.built) == sorted(PLANS)
    assert {row["plan"] for row in ours["plans"]} == set(PLANS)
    for row in ours["plans"]:
        assert row["build_s"] >= 0 and row["load_s"] >= 0 and row["mb"] >= 0
        assert row["golden_error"] <= row["tolerance"] == 1e-3
    assert (
        [row["batch"] for row in ours["hops"]] == [1, 2, 4] == [r["batch"] for r in theirs["hops"]]
    )
    for row in ours["hops"]:
        assert 0 < row["hop_ms_p50"] <= row["hop_ms_p95"]
        assert row["frames_s"] == pytest.approx(4e3 * row["batch"] / row["hop_ms_p50"], rel=1e-2)
    assert {row["network"] for row in ours["networks"]} == set(NETWORKS)
    assert ours["captured"] and ours["gpu"] == "FakeGPU"
    assert ours["peak_mb"] == pytest.approx(fake_peak_mb(fake), abs=3.0)
    assert ours["beside_torch"]["levels_max"] <= 1
    assert not any(fake.machine.gpu.cuda.held.values())
    shown = capsys.readouterr().out
    assert shown.rstrip().splitlines()[-1].split()[0] == "torch:f32"
    assert (tmp_path / "out" / "gpu_tensorrt.html").exists()


def fake_peak_mb(fake: FakeMachine) -> float:
    """What the same backend takes with 1 + 2 + 4 sessions that nobody has let go of."""
    gpu = fake.machine.gpu.fresh()
    backend = gpu.backend()
    backend.warm_up(4)
    held = [backend.new_session(hop_frames=4, seed=seed) for seed in range(4)]
    used = gpu.cuda.used / 1e6
    del held
    return used


def test_what_a_runtime_refuses_is_in_the_table_in_its_words_and_the_others_go_on(
    fake: FakeMachine, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fake.machine.gpu.api.refuse_data = b"codec_encoder"
    runtimes = ["--runtimes", "tensorrt_rtx", "torch"]
    figures = figures_of(fake, tmp_path, *runtimes, "--precisions", "f32", "f8")
    by_case = {case["case"]: case for case in figures["cases"]}
    assert "CUDA driver version is insufficient" in by_case["tensorrt_rtx:f32"]["refusal"]
    assert "refusal" not in by_case["torch:f32"] and by_case["torch:f32"]["hops"]
    assert "beside_torch" not in by_case["tensorrt_rtx:f32"]
    assert by_case["tensorrt_rtx:f8"]["refusal"].endswith("asked for f8")
    assert "tensorrt_rtx:f32: the plan of codec_encoder does not load" in capsys.readouterr().out


def test_a_case_gets_the_time_that_the_others_leave_and_none_begins_without(
    fake: FakeMachine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ["--runtimes", "tensorrt", "tensorrt_rtx"]
    monkeypatch.setattr(Deadline, "left_s", lambda deadline: RESERVE_S - 1)
    figures = figures_of(fake, tmp_path, *names)
    assert fake.given == [] and figures["skipped"] == ["tensorrt:f32", "tensorrt_rtx:f32"]
    monkeypatch.setattr(Deadline, "left_s", lambda deadline: 300.0)
    fake.machine.gpu.api.refuse_data = b"hop_start"  # the first plan: nothing is measured
    figures_of(fake, tmp_path, *names)
    assert fake.given == [("tensorrt:f32", 300 - RESERVE_S), ("tensorrt_rtx:f32", 300)]


def test_torch_and_aoti_have_no_f8_and_what_is_wanted_most_comes_first() -> None:
    order = cases(["aoti", "tensorrt_rtx", "torch"], ["f16", "f8"])
    assert list(map(str, order)) == ["tensorrt_rtx:f16", "aoti:f16", "torch:f16", "tensorrt_rtx:f8"]


def test_without_a_gpu_a_case_in_its_own_process_says_so(fake: FakeMachine, tmp_path: Path) -> None:
    pytest.importorskip("tensorrt_rtx")
    pytest.importorskip("cuda.bindings.runtime")
    options = gpu_tensorrt._parser().parse_args(
        [*WAY, *SHORT, "--out", str(tmp_path), "--work", str(tmp_path / "work"), "--device", "cpu"]
    )
    found = gpu_tensorrt._in_a_process(options, Case("tensorrt_rtx", "f32"), 200.0)
    assert "cudaGetDeviceCount" in found["refusal"]
    stopped = gpu_tensorrt._in_a_process(options, Case("tensorrt_rtx", "f32"), 0.0)
    assert stopped == {"refusal": "ended after 0 s, when its time was up"}
