"""The graphs that serve a model, in f8: what reads 8 bits, and that it is near torch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto

from export.component_graph import ComponentGraph
from export.f8.calibration import Calibrated, served_inputs
from export.f8.recipe import Recipe
from export.hop_graphs import HOP_GRAPHS
from export.networks import loaded_network
from export.parity import ReferenceGraph, output_error
from export.request import COMPONENTS, GRAPH_NAMES, ExportRequest
from export.serving_plans import write_serving_graphs
from export.tensorrt_builder import Graph
from export.tolerances import tolerance_of

# Of random weights more kinds are too far from torch, and layers would be tried one by one.
FEED_FORWARD = Recipe(kinds=("feed_forward",), sessions=1, hops=2)


@pytest.fixture(scope="module")
def written(wide_model: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Graph]:
    graphs = write_serving_graphs(
        wide_model,
        tmp_path_factory.mktemp("graphs"),
        hop_frames=4,
        batches=(1,),
        precision="f8",
        recipe=FEED_FORWARD,
    )
    return {graph.name: graph for graph in graphs}


def test_there_is_every_network_and_everything_between_them(written: dict[str, Graph]) -> None:
    assert set(written) == {*GRAPH_NAMES.values(), *HOP_GRAPHS}
    for graph in written.values():
        onnx.checker.check_model(str(graph.path))


def test_only_the_unet_reads_8_bits_and_the_others_pass_on_what_it_takes(
    written: dict[str, Graph],
) -> None:
    for component in COMPONENTS:
        graph = written[GRAPH_NAMES[component]]
        assert isinstance(graph, ComponentGraph)
        assert graph.request.precision == ("f8" if component == "unet" else "f16")
        operators = {
            node.op_type for node in onnx.load(str(graph.path), load_external_data=False).graph.node
        }
        assert ("QuantizeLinear" in operators) == (component == "unet")
    dtypes = {
        (name, item.name): item.type.tensor_type.elem_type
        for name in HOP_GRAPHS
        for item in onnx.load(str(written[name].path)).graph.output
    }
    sample = next(item for item in written["unet"].inputs if item.name == "sample")
    assert sample.dtype == "f16"
    assert dtypes["hop_start", "sample"] == TensorProto.FLOAT16


@torch.inference_mode()
def test_the_unet_is_as_near_to_torch_as_an_export_of_f8_has_to_be(
    written: dict[str, Graph], wide_request: ExportRequest, calibrated: Calibrated
) -> None:
    network = loaded_network(wide_request)
    inputs = served_inputs(network, calibrated.rows, 1)
    wanted = network.module(
        *[value.float() if value.is_floating_point() else value for value in inputs]
    )
    got = ReferenceGraph(written["unet"].path, as_it_is=True).run(inputs)
    errors = {
        name: output_error("batch 1", name, value.astype(np.float32), want).relative
        for (name, value), want in zip(got.items(), wanted, strict=True)
    }
    assert all(error <= tolerance_of("f8", name) for name, error in errors.items())
    assert max(errors.values()) > tolerance_of("f16", "out"), "it was written in f16"
