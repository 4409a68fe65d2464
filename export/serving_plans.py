"""The plans that the TensorRT backend runs a model with: the networks, and what is between them.

    plan = build_serving_plan(served, "unet")

`engine.backends.tensorrt_plans` calls this where the plan cache has none. No GPU is needed for
TensorRT-RTX.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import Tensor

from engine.backends.tensorrt_plans import ServedPlans
from engine.checkpoints import resolve_model
from engine.media import F32
from engine.plan_runtime.hop_way import branches_of, network_frames, plans_of
from engine.spec import ModelSpec
from export.component_graph import ComponentGraph, write_graph
from export.f8.prepare import prepared
from export.f8.recipe import DEFAULT_RECIPE, Recipe
from export.hop_graphs import write_hop_graph
from export.networks import TORCH_DTYPES, empty_network, golden_inputs
from export.parity import ReferenceGraph
from export.request import COMPONENTS, GRAPH_NAMES, Component, ExportRequest, Precision, TensorSpec
from export.targets import Report, silent
from export.tensorrt_builder import Graph, build_plan, load_compiler


@dataclass(frozen=True, slots=True)
class ServingPlan:
    """A plan, and the graph that it was built from.

    Attributes:
        graph: its files have to be there for `run`.
        data: as the plan's runtime reads it.
        folder: of the graph's files, which go when this object does.
    """

    graph: Graph
    data: memoryview
    folder: TemporaryDirectory[str] | None = None

    def golden_inputs(self) -> Mapping[str, F32]:
        """Inputs of its graph, of the smallest batch, in f32."""
        if isinstance(self.graph, ComponentGraph):
            request = self.graph.request
            values = golden_inputs(empty_network(request), request, request.batches[0])
        else:
            values = _drawn(self.graph)
        names = (tensor.name for tensor in self.graph.inputs)
        return {name: value.float().numpy() for name, value in zip(names, values, strict=True)}

    def run(self, inputs: Mapping[str, F32]) -> Mapping[str, F32]:
        """What onnxruntime makes of them with the graph, in f32, by name.

        OpenVINO, of a graph in bf16, for which onnxruntime has no kernels on CPUs.
        """
        given = [
            torch.from_numpy(inputs[tensor.name]).to(TORCH_DTYPES[tensor.dtype])
            for tensor in self.graph.inputs
        ]
        if any(tensor.dtype == "bf16" for tensor in (*self.graph.inputs, *self.graph.outputs)):
            from export.openvino_run import OpenVinoGraph

            results = OpenVinoGraph(self.graph.path, "f32").run(given)
            names = (tensor.name for tensor in self.graph.outputs)
            return {n: value.float().numpy() for n, value in zip(names, results, strict=True)}
        made = ReferenceGraph(self.graph.path, as_it_is=True).run(given)
        return {name: value.astype("float32") for name, value in made.items()}


def build_serving_plan(served: ServedPlans, name: str) -> ServingPlan:
    """One of the plans that serve a model.

    Raises:
        BackendError: the compiler is not installed or refuses the graph.
        ModelError: the model's weights are missing or do not fit.
    """
    compiler = load_compiler(served.api_name)
    folder = TemporaryDirectory(prefix="lipwire-plan-")
    graph = write_serving_graph(served, name, Path(folder.name))
    return ServingPlan(graph, build_plan(compiler, graph).data, folder)


def write_serving_graph(
    served: ServedPlans, name: str, folder: Path, report: Report = silent
) -> Graph:
    """One of the graphs that serve a model, written into `folder`.

    Raises:
        ModelError: the model's weights are missing or do not fit.
    """
    for component in COMPONENTS:
        if GRAPH_NAMES[component] == name:
            return write_graph(_request(served, component), folder, report)
    return write_hop_graph(_request(served, "decoder"), name, folder)


def write_serving_graphs(
    model: str | Path,
    folder: Path,
    *,
    hop_frames: int,
    batches: tuple[int, ...],
    precision: Precision,
    report: Report = silent,
    recipe: Recipe = DEFAULT_RECIPE,
) -> list[Graph]:
    """The networks of a model and what happens between them, written as ONNX.

    Args:
        folder: exists; files of their names are overwritten.
        precision: of the networks; f8 is of the U-Net, beside f16.
        recipe: of f8, which is calibrated here.

    Raises:
        ModelError, ConfigError: as of `ExportRequest.of` and `write_graph`.
    """
    model_dir = resolve_model(model)
    spec = ModelSpec.read(model_dir)
    components = {GRAPH_NAMES[component]: component for component in COMPONENTS}
    graphs: list[Graph] = []
    for name in plans_of(spec, hop_frames):
        component = components.get(name, "decoder")
        own: Precision = "f16" if precision == "f8" and component != "unet" else precision
        request = _network_request(model_dir, spec, component, hop_frames, batches, own)
        if own == "f8":
            request, _ = prepared(request, recipe, report)
        if name in components:
            graphs.append(write_graph(request, folder, report))
        else:
            graphs.append(write_hop_graph(request, name, folder))
    return graphs


def _request(served: ServedPlans, component: Component) -> ExportRequest:
    return _network_request(
        served.model_dir,
        served.spec,
        component,
        served.hop_frames,
        served.buckets,
        served.precision,
    )


def _network_request(
    model_dir: Path,
    spec: ModelSpec,
    component: Component,
    hop: int,
    batches: tuple[int, ...],
    precision: Precision,
) -> ExportRequest:
    """The request for a network, as hops run it: the U-Net's frames and rows are not the hop's."""
    if component == "unet":
        batches = tuple(batch * branches_of(spec) for batch in batches)
        hop = network_frames(spec, hop)
    return ExportRequest(model_dir, spec, component, hop, batches, precision)


def _drawn(graph: Graph) -> list[Tensor]:
    """Inputs of a graph between networks: pictures of any bytes, a few grey ones, noise."""
    generator = torch.Generator().manual_seed(0)
    rows = graph.rows(graph.batches[0])

    def drawn(tensor: TensorSpec) -> Tensor:
        shape = tensor.at(rows)
        if tensor.dtype == "u8":
            return torch.randint(0, 256, shape, generator=generator)
        value = torch.randn(shape, generator=generator)
        return (value > 0).float() if tensor.name == "grey" else value

    return [drawn(tensor) for tensor in graph.inputs]
