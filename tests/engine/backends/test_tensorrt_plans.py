"""Plans come from the cache, and are held against onnxruntime wherever they are loaded."""

from __future__ import annotations

import dataclasses
import importlib
import importlib.util
from pathlib import Path

import numpy as np
import pytest

from engine.backends.tensorrt_backend import TensorRtBackend
from engine.backends.tensorrt_plans import TensorRtPlans
from engine.errors import BackendError
from engine.plan_runtime.hop_way import plans_of
from engine.plan_runtime.run_once import run_once
from engine.plans.cache import PlanCache
from export.serving_plans import ServingPlan, build_serving_plan
from tests.fake_plans import FakeGpu, Machine
from tests.tiny_models import TINY_SPEC

PLANS = plans_of(TINY_SPEC, TINY_SPEC.hop_frames)


def test_plans_are_built_once_and_loaded_by_the_next_process(
    tiny_gpu: FakeGpu, tmp_path: Path
) -> None:
    first = Machine(tiny_gpu, PlanCache(tmp_path))
    assert set(first.plans.open(tiny_gpu.served)) == set(PLANS) == set(first.built)
    second = Machine(tiny_gpu, PlanCache(tmp_path))
    plans = second.plans.open(tiny_gpu.served)
    assert second.built == []
    assert plans["unet"].rows == (1, 2, 4)
    assert second.gpu.cuda.held["device"] == 0  # the checks took memory and gave it back
    backend = TensorRtBackend(
        tiny_gpu.spec,
        second.gpu.cuda,
        lambda hop: plans,
        name="tensorrt",
        precision="f32",
        buckets=(1, 2, 4),
    )
    backend.warm_up(4)


def test_a_plan_that_gives_something_else_on_this_device_is_not_used(
    tiny_gpu: FakeGpu, tmp_path: Path
) -> None:
    for cache in (None, PlanCache(tmp_path)):
        machine = Machine(tiny_gpu, cache)
        machine.gpu.api.wrong = {"codec_decoder"}
        with pytest.raises(BackendError, match=r"plan of codec_decoder on FakeGPU.* golden values"):
            machine.plans.open(tiny_gpu.served)
    Machine(tiny_gpu, PlanCache(tmp_path)).plans.open(tiny_gpu.served)
    ill = Machine(tiny_gpu, PlanCache(tmp_path))
    ill.gpu.api.wrong = {"hop_finish"}  # plans that were good yesterday
    with pytest.raises(BackendError, match="plan of hop_finish"):
        ill.plans.open(tiny_gpu.served)


def test_a_plan_that_no_longer_loads_is_built_anew(tiny_gpu: FakeGpu, tmp_path: Path) -> None:
    Machine(tiny_gpu, PlanCache(tmp_path)).plans.open(tiny_gpu.served)
    machine = Machine(tiny_gpu, PlanCache(tmp_path))
    machine.gpu.api.refuse_data = b"codec_encoder"
    with pytest.raises(BackendError, match="plan of codec_encoder does not load: CUDA driver"):
        machine.plans.open(tiny_gpu.served)
    assert machine.built == ["codec_encoder"]


def test_without_the_exporter_a_missing_plan_says_what_to_install(
    tiny_gpu: FakeGpu, monkeypatch: pytest.MonkeyPatch
) -> None:
    def absent(name: str) -> None:
        raise ModuleNotFoundError("No module named 'onnx'", name="onnx")

    monkeypatch.setattr(importlib, "import_module", absent)
    gpu = tiny_gpu.fresh()
    with pytest.raises(BackendError, match=r'needs onnx: pip install -e "\.\[export\]"'):
        TensorRtPlans(None, gpu.cuda, gpu.api).open(tiny_gpu.served)


def test_a_run_for_checks_gives_the_graphs_own_outputs(tiny_gpu: FakeGpu) -> None:
    gpu = tiny_gpu.fresh()
    stream = gpu.cuda.create_stream()
    graph = gpu.graphs["hop_step"]
    plan = ServingPlan(graph, memoryview(gpu.api.plan_of(graph)))
    inputs = plan.golden_inputs()
    got = run_once(gpu.plans(4)["hop_step"], gpu.cuda, stream, inputs)
    for name, want in plan.run(inputs).items():
        np.testing.assert_allclose(got[name], want, atol=1e-6)
    with pytest.raises(BackendError, match="expected inputs"):
        run_once(gpu.plans(4)["hop_step"], gpu.cuda, stream, {"mix": inputs["mix"]})
    assert gpu.cuda.held["device"] == 0


@pytest.mark.skipif(
    importlib.util.find_spec("tensorrt_rtx") is None, reason="wheels for Linux on x86_64 only"
)
@pytest.mark.parametrize("name", [name for name in PLANS if name != "unet"])
def test_tensorrt_rtx_builds_what_the_backend_binds(tiny_gpu: FakeGpu, name: str) -> None:
    served = dataclasses.replace(
        tiny_gpu.served, api_name="tensorrt_rtx", precision="f16", buckets=(1, 2)
    )
    plan = build_serving_plan(served, name)
    assert len(plan.data) > 10_000
    outputs = plan.run(plan.golden_inputs())
    assert all(np.isfinite(value).all() for value in outputs.values())
