"""Exported networks agree with torch at every batch asked for, or are not kept."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import onnx
import pytest
import torch

from engine.checkpoints import load_codec
from engine.errors import ConfigError, ModelError
from engine.spec import ModelSpec
from export.component_export import export_component
from export.f8.recipe import Recipe
from export.networks import loaded_network
from export.request import Component, ExportRequest, Precision
from export.shared_weights import stored_tensors
from export.targets import load_target
from export.tolerances import TOLERANCES
from tests.published_models import TINY_PUBLISHED
from tests.tiny_models import write_random_model


@pytest.fixture(scope="module")
def pooled_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model of the published kind: KL codec, norms that pool over frames, mode "carry"."""
    folder = tmp_path_factory.mktemp("pooled")
    unet = dataclasses.replace(TINY_PUBLISHED.unet, motion_decoder_only=True)
    write_random_model(folder, dataclasses.replace(TINY_PUBLISHED, unet=unet, carry="carry"))
    return folder


def request(
    folder: Path, component: Component, precision: Precision = "f32", hop: int = 4
) -> ExportRequest:
    return ExportRequest.of(folder, component, hop_frames=hop, batches=(1, 3), precision=precision)


@pytest.mark.parametrize("component", ["decoder", "encoder", "audio"])
def test_every_component_agrees_with_torch_and_says_so_beside_the_file(
    pooled_model: Path, component: Component, tmp_path: Path
) -> None:
    record = export_component(load_target("onnx"), request(pooled_model, component), tmp_path)
    name = request(pooled_model, component).name
    written = json.loads((tmp_path / f"{name}.export.json").read_text())
    assert record.passed and written["passed"]
    assert written["schema_version"] == 1 and written["tolerance"] == TOLERANCES["f32"]
    assert {error["case"] for error in written["errors"]} == {"batch 1", "batch 3"}
    assert max(error["relative"] for error in written["errors"]) < 1e-5
    assert sorted(written["files"]) == [f"{name}.onnx", f"{name}.safetensors"]
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(
        [*written["files"], f"{name}.export.json"]
    )


def test_the_unet_has_rings_places_and_moments_as_inputs_and_new_ones_as_outputs(
    pooled_model: Path, tmp_path: Path
) -> None:
    record = export_component(load_target("onnx"), request(pooled_model, "unet"), tmp_path)
    assert record.worst is not None and record.worst.relative < 1e-5
    assert {error.case for error in record.errors} == {"batch 1", "batch 3"}
    graph = onnx.load(str(tmp_path / "unet.onnx"), load_external_data=False).graph
    shapes = {
        item.name: [dim.dim_param or dim.dim_value for dim in item.type.tensor_type.shape.dim]
        for item in (*graph.input, *graph.output)
    }
    spec = ModelSpec.read(pooled_model)
    assert shapes["sample"] == ["batch", 13, 4, 4, 4]
    assert shapes["places"] == shapes["valid"] == ["batch", 12]
    assert shapes["ring_000"] == ["batch", 2, 12, 4, 16]
    assert shapes["moments_000"] == ["batch", 2, 12, spec.unet.norm_num_groups]
    assert shapes["new_ring_000"] == ["batch", 2, 4, 4, 16]
    assert shapes["new_moments_000"] == ["batch", 2, 4, spec.unet.norm_num_groups]
    names = [item.name for item in graph.input]
    assert sum(name.startswith("ring_") for name in names) == 8
    assert all(dim == "batch" for dim in (shape[0] for shape in shapes.values()))


@pytest.mark.parametrize("component", ["decoder", "audio"])
def test_a_graph_of_bf16_agrees_within_its_tolerance(
    pooled_model: Path, component: Component, tmp_path: Path
) -> None:
    record = export_component(
        load_target("onnx"), request(pooled_model, component, "bf16"), tmp_path
    )
    assert record.worst is not None
    assert 1e-3 < record.worst.relative < TOLERANCES["bf16"]


def test_a_unet_of_f16_agrees_within_its_tolerance_and_keeps_moments_in_f32(
    pooled_model: Path, tmp_path: Path
) -> None:
    record = export_component(load_target("onnx"), request(pooled_model, "unet", "f16"), tmp_path)
    assert record.worst is not None
    assert 1e-4 < record.worst.relative < TOLERANCES["f16"]
    kinds = {tensor["name"]: tensor["dtype"] for tensor in record.inputs}
    assert kinds["sample"] == kinds["ring_000"] == "f16"
    assert kinds["moments_000"] == kinds["timestep"] == "f32"


@pytest.mark.slow
def test_a_hop_of_the_whole_window_has_no_rings_and_agrees(
    pooled_model: Path, tmp_path: Path
) -> None:
    record = export_component(load_target("onnx"), request(pooled_model, "unet", hop=16), tmp_path)
    assert [tensor["name"] for tensor in record.inputs] == [
        "sample",
        "timestep",
        "audio",
        "present",
    ]
    assert record.passed


def test_a_unet_of_f8_is_calibrated_checked_on_served_inputs_and_says_how(
    wide_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(TOLERANCES, "f8", 0.2)  # random weights average nothing out
    asked = request(wide_model, "unet", "f8")
    recipe = Recipe(sessions=1, hops=2)
    record = export_component(load_target("onnx"), asked, tmp_path, recipe=recipe)
    assert record.worst is not None and record.passed
    assert {error.case for error in record.errors} == {"batch 1", "batch 3"}
    assert 1e-3 < record.errors[0].relative < TOLERANCES["f8"]
    written = json.loads((tmp_path / "unet.export.json").read_text())
    found = written["quantisation"]
    assert found["recipe"]["hops"] == 2 and len(found["ranges"]) > 20 and found["kept"] == {}
    assert len(found["data_sha256"]) == len(found["sha256"]) == 64
    kinds = {tensor["name"]: tensor["dtype"] for tensor in written["inputs"]}
    assert kinds["sample"] == kinds["ring_000"] == "f16"
    stored = stored_tensors(tmp_path / "unet.safetensors")
    narrow = [place for place in stored.values() if place.dtype == "F8_E4M3"]
    assert len(narrow) == len(found["ranges"])


def test_f8_over_its_tolerance_is_not_kept(
    wide_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("export.f8.prepare.layers_to_keep", lambda *_args: {})
    monkeypatch.setitem(TOLERANCES, "f8", 1e-6)
    asked = request(wide_model, "unet", "f8")
    with pytest.raises(ModelError, match=r"in f8: expected a relative error of at most 1e-06"):
        export_component(load_target("onnx"), asked, tmp_path, recipe=Recipe(sessions=1, hops=1))
    assert [path.name for path in tmp_path.iterdir()] == ["unet.failed.json"]


def test_openvino_gives_what_torch_gives(pooled_model: Path, tmp_path: Path) -> None:
    record = export_component(load_target("openvino"), request(pooled_model, "decoder"), tmp_path)
    assert record.passed and sorted(record.files) == ["codec_decoder.bin", "codec_decoder.xml"]


def test_an_export_over_the_tolerance_is_an_error_and_only_its_record_is_kept(
    pooled_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(TOLERANCES, "f32", 1e-12)
    with pytest.raises(ModelError, match=r"at most 1e-12 against torch, got .* in latents"):
        export_component(load_target("onnx"), request(pooled_model, "encoder"), tmp_path)
    (left,) = tmp_path.iterdir()
    assert left.name == "codec_encoder.failed.json"
    assert json.loads(left.read_text())["passed"] is False


def test_the_impossible_is_refused_with_what_is_possible(pooled_model: Path) -> None:
    with pytest.raises(ConfigError, match=r"expected a target of onnx, .*got 'coreml'"):
        load_target("coreml")
    with pytest.raises(ConfigError, match="expected a hop of 1 to 16"):
        request(pooled_model, "unet", hop=17)
    with pytest.raises(ConfigError, match="expected batches of 1 or more that rise"):
        ExportRequest.of(pooled_model, "unet", batches=(2, 1))
    with pytest.raises(ConfigError, match="expected a component of unet, decoder"):
        ExportRequest.of(pooled_model, "vae")  # type: ignore[arg-type]


def test_progress_is_reported_while_constants_are_copied(
    pooled_model: Path, tmp_path: Path
) -> None:
    steps: list[tuple[str, int, int]] = []
    load_target("onnx").build(
        request(pooled_model, "audio"), tmp_path, lambda *step: steps.append(step)
    )
    copied = [(done, total) for step, done, total in steps if step.endswith("constants")]
    assert len(copied) > 3 and copied[-1][0] == copied[-1][1] > 0


def test_the_codec_that_exports_are_held_against_is_the_models_own(pooled_model: Path) -> None:
    codec = load_codec(pooled_model, ModelSpec.read(pooled_model))
    noise = torch.Generator().manual_seed(0)
    cases: list[tuple[Component, str, tuple[int, ...]]] = [
        ("encoder", "encode", (2, 3, 32, 32)),
        ("decoder", "decode", (2, 4, 4, 4)),
    ]
    for component, name, shape in cases:
        value = torch.randn(shape, generator=noise)
        network = loaded_network(request(pooled_model, component))
        with torch.inference_mode():
            torch.testing.assert_close(
                network.module(value), getattr(codec, name)(value), atol=1e-5, rtol=1e-5
            )


def test_an_f16_export_whose_activations_overflow_is_refused(
    pooled_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("export.component_export.LARGEST_F16", 0.5)
    with pytest.raises(ModelError, match="expected activations of at most 0 on golden inputs"):
        export_component(load_target("onnx"), request(pooled_model, "encoder", "f16"), tmp_path)
    (left,) = tmp_path.iterdir()
    assert left.name == "codec_encoder.failed.json"
    assert json.loads(left.read_text())["passed"] is False


def test_torch_tensorrt_says_what_is_missing_and_what_takes_the_unet() -> None:
    target = load_target("torch-tensorrt")
    assert "use --target tensorrt" in str(target.refuses("unet", "f16"))
    assert target.refuses("audio", "f16") is None
    if not torch.cuda.is_available():
        assert "sees no CUDA device" in str(target.unavailable())


@pytest.mark.slow
@pytest.mark.parametrize("component", ["unet", "audio"])
def test_aoti_packages_give_what_torch_gives(
    pooled_model: Path, component: Component, tmp_path: Path
) -> None:
    record = export_component(load_target("aoti"), request(pooled_model, component), tmp_path)
    name = request(pooled_model, component).name
    assert record.passed and sorted(record.files) == [f"{name}-b1.pt2", f"{name}-b3.pt2"]
