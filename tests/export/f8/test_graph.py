"""Products read 8-bit inputs and weights, each by way of the nodes that TensorRT looks for."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import onnx
import pytest
from onnx import NodeProto, TensorProto

from engine.errors import ModelError
from export.component_graph import write_graph
from export.f8.calibration import Calibrated
from export.f8.recipe import Quantisation
from export.request import ExportRequest


@pytest.fixture(scope="module")
def written(
    wide_request: ExportRequest, calibrated: Calibrated, tmp_path_factory: pytest.TempPathFactory
) -> onnx.GraphProto:
    folder = tmp_path_factory.mktemp("graph")
    return graph_of(wide_request, calibrated.quantisation, folder)


def graph_of(request: ExportRequest, quantisation: Quantisation, folder: Path) -> onnx.GraphProto:
    made = write_graph(dataclasses.replace(request, quantisation=quantisation), folder)
    return onnx.load(str(made.path), load_external_data=False).graph


def makers(graph: onnx.GraphProto) -> dict[str, NodeProto]:
    return {name: node for node in graph.node for name in node.output}


def products(graph: onnx.GraphProto, layer: str) -> list[NodeProto]:
    wide = f"unet.{layer}.weight/wide"
    return [node for node in graph.node if wide in node.input]


def test_every_product_of_the_recipe_reads_8_bits_on_both_sides(
    written: onnx.GraphProto, calibrated: Calibrated
) -> None:
    made_by = makers(written)
    for layer in calibrated.quantisation.ranges:
        readers = products(written, layer)
        assert readers, layer
        served = [made_by[node.input[0]] for node in readers]
        rounded = [node for node in served if node.op_type == "DequantizeLinear"]
        assert len(rounded) == 1, layer  # the other one, if any, reads a table of positions
        assert made_by[rounded[0].input[0]].op_type == "QuantizeLinear"


def test_stored_weights_are_8_bits_with_a_scale_for_each_output(
    written: onnx.GraphProto, calibrated: Calibrated
) -> None:
    constants = {item.name: item for item in written.initializer}
    made_by = makers(written)
    for layer in calibrated.quantisation.ranges:
        weight = constants[f"unet.{layer}.weight"]
        scale = constants[f"unet.{layer}.weight/scale"]
        axis = made_by[f"unet.{layer}.weight/wide"].attribute[0].i
        assert weight.data_type == TensorProto.FLOAT8E4M3FN
        assert scale.data_type == TensorProto.FLOAT16
        assert list(scale.dims) == [weight.dims[axis]]
        (kind,) = {node.op_type for node in products(written, layer)}
        assert (kind, axis) in {("Conv", 0), ("MatMul", 1)}


def test_tables_of_positions_are_not_rounded(written: onnx.GraphProto) -> None:
    made_by = makers(written)
    temporal = "up_blocks.0.motion_modules.0.temporal_transformer.transformer_blocks.0"
    kinds = [
        made_by[node.input[0]].op_type
        for node in products(written, f"{temporal}.attention_blocks.0.to_k")
    ]
    assert sorted(kinds) == ["DequantizeLinear", "Slice"]


def test_layers_that_read_the_same_tensor_share_its_rounding(written: onnx.GraphProto) -> None:
    attention = "mid_block.attentions.0.transformer_blocks.0.attn1"
    read = {products(written, f"{attention}.to_{name}")[0].input[0] for name in "qkv"}
    assert len(read) == 1


def test_a_layer_that_is_kept_reads_f16(
    wide_request: ExportRequest, calibrated: Calibrated, tmp_path: Path
) -> None:
    layer = "mid_block.resnets.0.conv1"
    kept = dataclasses.replace(calibrated.quantisation, kept={layer: 1.0})
    graph = graph_of(wide_request, kept, tmp_path)
    constants = {item.name: item for item in graph.initializer}
    assert constants[f"unet.{layer}.weight"].data_type == TensorProto.FLOAT16
    assert not products(graph, layer)


def test_a_layer_without_a_product_is_refused(
    wide_request: ExportRequest, calibrated: Calibrated, tmp_path: Path
) -> None:
    odd = dataclasses.replace(calibrated.quantisation, ranges={"nowhere": 1.0})
    with pytest.raises(ModelError, match=r"expected one kind of product with unet\.nowhere"):
        graph_of(wide_request, odd, tmp_path)


def test_f8_that_was_not_calibrated_is_not_written_as_f16(
    wide_request: ExportRequest, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match="expected a quantisation with f8"):
        write_graph(wide_request, tmp_path)
