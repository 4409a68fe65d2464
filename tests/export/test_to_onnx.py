"""Exported graphs hold no weights, agree with torch, and fail loudly where they do not."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
from safetensors.numpy import load_file

from engine.errors import ModelError
from engine.spec import ModelSpec
from export.parity import check_parity
from export.shared_weights import MAX_INLINE_BYTES
from export.to_onnx import OPSET, export_model, main
from tests.tiny_models import TINY_SPEC, make_tiny_model

GRAPHS = ("audio_encoder", "codec_encoder", "codec_decoder", "unet")


@pytest.mark.parametrize("name", GRAPHS)
def test_every_weight_is_a_range_of_the_safetensors(tiny_onnx_model: Path, name: str) -> None:
    graph = onnx.load(str(tiny_onnx_model / f"{name}.onnx"), load_external_data=False).graph
    shared = 0
    for tensor in graph.initializer:
        if tensor.data_location != onnx.TensorProto.EXTERNAL:
            assert len(tensor.raw_data) <= MAX_INLINE_BYTES
            continue
        place = {item.key: item.value for item in tensor.external_data}
        weights = load_file(tiny_onnx_model / place["location"])
        data = (tiny_onnx_model / place["location"]).read_bytes()
        offset, length = int(place["offset"]), int(place["length"])
        stored = np.frombuffer(data[offset : offset + length], np.float16)
        key = tensor.name.removesuffix("/stored").split(".", 1)[1]
        known = weights.get(key, weights.get(f"encoder.{key}"))
        assert known is not None
        np.testing.assert_array_equal(stored.reshape(tuple(tensor.dims)), known)
        shared += length
    assert shared > 0


@pytest.mark.parametrize("name", GRAPHS)
def test_graphs_have_the_named_dynamic_axes(tiny_onnx_model: Path, name: str) -> None:
    model = onnx.load(str(tiny_onnx_model / f"{name}.onnx"), load_external_data=False)
    assert [item.version for item in model.opset_import if not item.domain] == [OPSET]
    for item in (*model.graph.input, *model.graph.output):
        assert item.type.tensor_type.shape.dim[0].dim_param == "batch"
    if name == "unet":
        shapes = {
            item.name: [dim.dim_param or dim.dim_value for dim in item.type.tensor_type.shape.dim]
            for item in model.graph.input
        }
        assert shapes["sample"] == ["batch", 13, "hop", 4, 4]
        assert shapes["audio"] == ["batch", "hop", 20, 16]
        assert shapes["valid"] == ["batch", "context"]
        assert shapes["ring_000"] == ["batch", 2, "context", 4, 16]


def test_digests_in_model_json_are_those_of_the_graphs(tiny_onnx_model: Path) -> None:
    spec = ModelSpec.read(tiny_onnx_model)
    for name in GRAPHS:
        digest = hashlib.sha256((tiny_onnx_model / f"{name}.onnx").read_bytes()).hexdigest()
        assert spec.digests[f"{name}.onnx"] == digest


def test_parity_file_covers_all_graphs_at_several_shapes(tiny_onnx_model: Path) -> None:
    report = json.loads((tiny_onnx_model / "parity.json").read_text())
    cases = {error["case"] for error in report["errors"]}
    assert {case.split()[0] for case in cases} == set(GRAPHS)
    assert {"unet batch 1 hop 8", "unet batch 2 hop 4", "unet batch 1 hop 1"} <= cases
    assert max(error["relative"] for error in report["errors"]) < 1e-5


def test_parity_fails_when_the_weights_changed_after_the_export(
    tiny_onnx_model: Path, tmp_path: Path
) -> None:
    for path in tiny_onnx_model.iterdir():
        shutil.copy(path, tmp_path)
    graph = onnx.load(str(tmp_path / "codec_decoder.onnx"), load_external_data=False)
    for node in graph.graph.node:
        if node.op_type == "Relu":
            node.op_type = "Sigmoid"
    (tmp_path / "codec_decoder.onnx").write_bytes(graph.SerializeToString())
    with pytest.raises(ModelError, match=r"codec_decoder.*expected a relative error of at most"):
        check_parity(tmp_path)


def test_a_model_with_pooled_norms_is_refused_with_a_sentence(tmp_path: Path) -> None:
    pooled = dataclasses.replace(TINY_SPEC.unet, per_frame_norm=False)
    make_tiny_model(tmp_path, unet=pooled, carry="carry")
    with pytest.raises(ModelError, match="per-frame norms"):
        export_model(tmp_path)


def test_the_command_reports_a_missing_folder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(tmp_path / "nowhere")]) == 1
    assert "expected a model folder" in capsys.readouterr().err
