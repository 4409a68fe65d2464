"""Plans are built by TensorRT-RTX, without a GPU: names, shapes, profiles, key, refusals."""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path
from typing import Any

import onnx
import pytest
import torch
from onnx import TensorProto, helper

from engine.errors import BackendError
from export.component_export import export_component
from export.component_graph import ComponentGraph, write_graph
from export.f8.calibration import calibrate
from export.f8.recipe import Recipe
from export.request import COMPONENTS, Component, ExportRequest, Precision
from export.targets import load_target
from export.tensorrt_builder import Compiler, Plan, build_plan, described, load_compiler
from export.tensorrt_load import load_refusal
from export.tensorrt_target import AHEAD_OF_TIME, TensorRtTarget, plan_key
from tests.tiny_models import make_tiny_model

pytest.importorskip("tensorrt_rtx", reason="tensorrt-rtx has wheels for Linux on x86_64 only")

DEVICE = {"name": AHEAD_OF_TIME}


@pytest.fixture(scope="module")
def compiler() -> Compiler:
    return load_compiler("tensorrt_rtx")


@pytest.fixture(scope="module")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny")
    make_tiny_model(folder)
    return folder


def graph_of(
    model: Path,
    component: Component,
    folder: Path,
    precision: Precision = "f32",
    batches: tuple[int, ...] = (1, 4),
) -> ComponentGraph:
    folder.mkdir(exist_ok=True)
    request = ExportRequest.of(model, component, hop_frames=4, batches=batches, precision=precision)
    return write_graph(request, folder)


class WatchedProfile:
    """An optimisation profile that notes what it is given."""

    def __init__(self, profile: Any, shapes: dict[str, tuple[tuple[int, ...], ...]]) -> None:
        self._profile = profile
        self._shapes = shapes

    def set_shape(self, name: str, *shapes: tuple[int, ...]) -> None:
        self._shapes[name] = shapes
        self._profile.set_shape(name, *shapes)


@pytest.mark.parametrize("precision", ["f32", "f16"])
@pytest.mark.parametrize("component", COMPONENTS)
def test_every_component_becomes_a_plan(
    compiler: Compiler,
    tiny_model: Path,
    component: Component,
    precision: Precision,
    tmp_path: Path,
) -> None:
    # Each profile costs a U-Net as much again, so that is a slow test of its own.
    batches = (1,) if component == "unet" else (1, 4)
    graph = graph_of(tiny_model, component, tmp_path, precision, batches)
    plan = build_plan(compiler, graph)
    assert len(plan.data) > 10_000 and plan.profiles == batches and plan.layers > 0


def test_a_unet_of_f8_becomes_a_plan_whose_key_holds_its_recipe(
    compiler: Compiler, wide_model: Path, tmp_path: Path
) -> None:
    request = ExportRequest.of(wide_model, "unet", hop_frames=4, precision="f8")
    found = calibrate(request, Recipe(sessions=1, hops=1)).quantisation
    graph = write_graph(dataclasses.replace(request, quantisation=found), tmp_path)
    plan = build_plan(compiler, graph)
    assert len(plan.data) > 10_000
    key = plan_key(compiler, graph, DEVICE)
    assert key.precision == "f8" and key.flags["quantisation"] == found.digest()


@pytest.mark.slow
def test_a_unet_becomes_one_plan_for_two_batches(
    compiler: Compiler, tiny_model: Path, tmp_path: Path
) -> None:
    plan = build_plan(compiler, graph_of(tiny_model, "unet", tmp_path, "f16", (1, 4)))
    assert plan.profiles == (1, 4)


def test_the_target_writes_plan_and_manifest_and_does_not_call_them_checked(
    tiny_model: Path, tmp_path: Path
) -> None:
    request = ExportRequest.of(tiny_model, "decoder", hop_frames=4, batches=(1, 2))
    record = export_component(load_target("tensorrt-rtx"), request, tmp_path)
    assert sorted(record.files) == ["codec_decoder.plan", "codec_decoder.plan.json"]
    assert not record.passed and "--target onnx" in record.not_run
    if not torch.cuda.is_available():
        assert "does not load it: " in record.not_run and "CUDA" in record.not_run
    manifest = json.loads((tmp_path / "codec_decoder.plan.json").read_text())
    assert manifest["profiles"] == [1, 2]
    assert manifest["inputs"] == [{"name": "latents", "dtype": "f32", "shape": ["batch", 4, 4, 4]}]
    assert manifest["outputs"] == [{"name": "image", "dtype": "f32", "shape": ["batch", 3, 32, 32]}]
    assert manifest["key"]["shapes"] == {"latents": [8, 4, 4, 4]}
    assert manifest["key"]["device"] == DEVICE and len(manifest["key_sha256"]) == 64


def test_the_same_graph_has_the_same_key_and_the_same_plan(
    compiler: Compiler, tiny_model: Path, tmp_path: Path
) -> None:
    first = graph_of(tiny_model, "encoder", tmp_path / "a")
    second = graph_of(tiny_model, "encoder", tmp_path / "b")
    assert plan_key(compiler, first, DEVICE) == plan_key(compiler, second, DEVICE)
    plans: list[Plan] = [build_plan(compiler, graph) for graph in (first, second)]
    assert plans[0].data == plans[1].data


def test_batches_precision_weights_and_device_are_other_keys(
    compiler: Compiler, tiny_model: Path, tmp_path: Path
) -> None:
    graph = graph_of(tiny_model, "encoder", tmp_path / "a")
    digests = [plan_key(compiler, graph, DEVICE).digest()]
    digests.append(plan_key(compiler, graph, {"name": "another GPU"}).digest())
    narrow = graph_of(tiny_model, "encoder", tmp_path / "b", "f16")
    digests.append(plan_key(compiler, narrow, DEVICE).digest())
    more = graph_of(tiny_model, "encoder", tmp_path / "c", batches=(1, 2, 4))
    digests.append(plan_key(compiler, more, DEVICE).digest())
    weights = bytearray(graph.constants.read_bytes())
    weights[-1] ^= 1
    graph.constants.write_bytes(weights)
    digests.append(plan_key(compiler, graph, DEVICE).digest())
    assert len(set(digests)) == len(digests)


def test_an_operator_that_there_is_not_is_named_with_its_node(
    compiler: Compiler, tiny_model: Path, tmp_path: Path
) -> None:
    graph = graph_of(tiny_model, "encoder", tmp_path)
    model = onnx.load(str(graph.path), load_external_data=False)
    last = model.graph.node[-1]
    (last.output[0], wanted) = ("before", last.output[0])
    model.graph.node.append(
        helper.make_node("Unfold", ["before"], [wanted], name="strange", domain="")
    )
    graph.path.write_bytes(model.SerializeToString())
    with pytest.raises(BackendError, match=r"cannot read codec_encoder: .*Unfold node 'strange'"):
        build_plan(compiler, graph)


def test_a_graph_of_other_outputs_is_refused_with_both(
    compiler: Compiler, tiny_model: Path, tmp_path: Path
) -> None:
    graph = graph_of(tiny_model, "encoder", tmp_path)
    model = onnx.load(str(graph.path), load_external_data=False)
    model.graph.node.append(helper.make_node("Cast", ["latents"], ["half"], to=TensorProto.FLOAT16))
    half = helper.make_tensor_value_info("half", TensorProto.FLOAT16, ["batch", 4, 4, 4])
    model.graph.output[0].CopyFrom(half)
    graph.path.write_bytes(model.SerializeToString())
    with pytest.raises(BackendError, match=r"expected outputs as \('latents'.*got \('half'"):
        build_plan(compiler, graph)


def test_a_profile_is_one_shape_and_there_is_one_for_each_batch(
    compiler: Compiler, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[dict[str, tuple[tuple[int, ...], ...]]] = []
    graph = graph_of(tiny_model, "encoder", tmp_path, batches=(1, 2, 8))

    def create(builder: Any) -> WatchedProfile:
        given.append({})
        return WatchedProfile(original(builder), given[-1])

    original = compiler.api.Builder.create_optimization_profile
    monkeypatch.setattr(compiler.api.Builder, "create_optimization_profile", create)
    monkeypatch.setattr(
        compiler.api.IBuilderConfig, "add_optimization_profile", lambda config, profile: 0
    )
    with pytest.raises(BackendError, match="cannot build codec_encoder"):  # it got no profile
        build_plan(compiler, graph)
    rows = [4, 8, 32]
    assert given == [{"image": ((row, 3, 32, 32),) * 3} for row in rows]


def test_tensorrt_itself_says_what_it_needs_and_what_builds_without_it() -> None:
    reason = str(load_target("tensorrt").unavailable())
    assert "with an NVIDIA GPU" in reason or "tensorrt-rtx builds without one" in reason
    absent = TensorRtTarget("tensorrt-rtx", "tensorrt_rtx")
    assert absent.unavailable() is None


def test_a_package_that_is_not_there_is_a_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    with pytest.raises(BackendError, match="cannot load tensorrt"):
        load_compiler("tensorrt")


def test_a_plan_of_bf16_keeps_the_graphs_types(
    compiler: Compiler, tiny_model: Path, tmp_path: Path
) -> None:
    graph = graph_of(tiny_model, "encoder", tmp_path, "bf16", (1,))
    assert {tensor.dtype for tensor in (*graph.inputs, *graph.outputs)} == {"bf16"}
    assert build_plan(compiler, graph).data
    wrong = dataclasses.replace(graph, inputs=(dataclasses.replace(graph.inputs[0], dtype="f16"),))
    with pytest.raises(BackendError, match="expected inputs as"):
        build_plan(compiler, wrong)


class StandInEngine:
    """A loaded plan, as the bindings show one."""

    def __init__(self, compiler: Compiler, graph: ComponentGraph, profiles: int) -> None:
        modes = compiler.api.TensorIOMode
        self._modes = {tensor.name: modes.INPUT for tensor in graph.inputs}
        self._modes |= {tensor.name: modes.OUTPUT for tensor in graph.outputs}
        tensors = described(compiler.api, (*graph.inputs, *graph.outputs))
        self._tensors = {name: (kind, shape) for name, kind, shape in tensors}
        self.num_io_tensors = len(self._tensors)
        self.num_optimization_profiles = profiles

    def get_tensor_name(self, index: int) -> str:
        return list(self._tensors)[index]

    def get_tensor_mode(self, name: str) -> Any:
        return self._modes[name]

    def get_tensor_dtype(self, name: str) -> str:
        return self._tensors[name][0]

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return self._tensors[name][1]


def test_a_loaded_plan_is_held_against_its_graph(
    compiler: Compiler, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    graph = graph_of(tiny_model, "encoder", tmp_path)
    other = graph_of(tiny_model, "decoder", tmp_path)
    plan = Plan(memoryview(b"plan"), (1, 4), 1, ())

    def loads(engine: StandInEngine) -> str:
        monkeypatch.setattr(
            compiler.api.Runtime, "deserialize_cuda_engine", lambda runtime, data: engine
        )
        return load_refusal(compiler, plan, graph)

    assert loads(StandInEngine(compiler, graph, 2)) == ""
    assert loads(StandInEngine(compiler, graph, 1)) == "loaded with 1 profiles, expected 2"
    assert loads(StandInEngine(compiler, other, 2)).startswith("loaded with other inputs")
