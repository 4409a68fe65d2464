"""Writes one network of a model as ONNX: a graph, and its constants in a file beside it.

    graph = write_graph(request, folder)

Batch is an axis of its own, left open under the name "batch"; every other axis is a number.
Opset 20, because opset 23's Attention builds in fp16 only; 22 in bf16, which Conv takes from there.
f8 is the graph of f16 whose products read 8-bit floats (`export.f8`).

No weight is ever in memory: the network is traced with one number in each weight's place, and its
constants are then copied from the model folder's file to the graph's, a tensor at a time.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import onnx
import torch
from onnx import ModelProto, NodeProto, TensorProto, helper
from torch import Tensor, nn

from engine.errors import ModelError
from engine.models.weight_files import WeightFile, write_safetensors
from export.compact import compact
from export.f8.graph import SCALE_SUFFIX, quantise_graph
from export.f8.numbers import FP8, along_outputs, to_f8, weight_scale
from export.networks import TORCH_DTYPES, Network, empty_network
from export.norms import keep_norms_in_f32
from export.request import BATCH_AXIS, ExportRequest, TensorSpec
from export.retype import bf16_to_f16
from export.shared_weights import StoredTensor, bind, stored_tensors
from export.targets import Report, silent

OPSETS = {"f32": 20, "f16": 20, "bf16": 22, "f8": 20}
IR_VERSION = 10
_DTYPES: dict[int, torch.dtype] = {
    TensorProto.FLOAT: torch.float32,
    TensorProto.FLOAT16: torch.float16,
    TensorProto.BFLOAT16: torch.bfloat16,
    TensorProto.FLOAT8E4M3FN: FP8,
}
# Traced values must differ, or the exporter takes equal constants for one; this one and the next
# few thousand are tiny in bf16, and normal numbers.
FIRST_PLACEHOLDER = 0x3000
_NARROW = {"F16": torch.float16, "BF16": torch.bfloat16}


@dataclass(frozen=True, slots=True)
class ComponentGraph:
    """An exported ONNX graph.

    Attributes:
        request: what it was made for.
        path: the .onnx file.
        constants: the file beside it that its weights lie in, in safetensors' layout.
        inputs, outputs: in the graph's order.
        nodes: operators in it.
    """

    request: ExportRequest
    path: Path
    constants: Path
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    nodes: int

    @property
    def name(self) -> str:
        """Of its files, without a suffix."""
        return self.request.name

    @property
    def batches(self) -> tuple[int, ...]:
        """Sessions a call that it is compiled for."""
        return self.request.batches

    def rows(self, batch: int) -> int:
        """The length of the batch axis for so many sessions."""
        return self.request.rows(batch)


def write_graph(request: ExportRequest, folder: Path, report: Report = silent) -> ComponentGraph:
    """The network's graph, written into `folder` as `request.name` .onnx and .safetensors.

    Args:
        folder: exists; files of these names are overwritten.

    Raises:
        ModelError: the model folder's weights are missing or do not fit.
        ValueError: a request for f8 that is not calibrated (`export.f8.prepare`).
    """
    if (request.precision == "f8") != (request.quantisation is not None):
        raise ValueError(f"expected a quantisation with f8 and no other, got {request.precision}")
    network = empty_network(request)
    graph_path = folder / f"{request.name}.onnx"
    constants = folder / f"{request.name}.safetensors"
    report(f"{request.name}: tracing", 0, 0)
    model = _traced(network, request)
    compact(model)
    if request.dtype == "f16":
        bf16_to_f16(model)
    model.opset_import[0].version = OPSETS[request.precision]
    model.ir_version = IR_VERSION
    weights = _weights_of(model, network)
    narrow: dict[str, int] = {}
    if request.quantisation is not None:
        narrow = quantise_graph(model, network.prefix, request.quantisation)
        for name in narrow:
            weights[name] = TensorProto.FLOAT8E4M3FN
            weights[name + SCALE_SUFFIX] = TensorProto.FLOAT16
    copied = _copy_constants(weights, narrow, network, constants, request, report)
    casts: list[NodeProto] = []
    for name, onnx_type in weights.items():
        constant = bind(casts, name, onnx_type, copied[name], constants.name)
        model.graph.initializer.append(constant)
    nodes = [*casts, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    _state_shapes(model, network)
    graph_path.write_bytes(model.SerializeToString())
    onnx.checker.check_model(str(graph_path))
    return ComponentGraph(
        request, graph_path, constants, network.inputs, network.outputs, len(nodes)
    )


def _traced(network: Network, request: ExportRequest) -> ModelProto:
    """The graph, with the weights as inputs of their names."""
    # f16 is traced in bf16: the nodes are the same, and CPUs convolve in f16 200 times slower.
    dtype = torch.float32 if request.precision == "f32" else torch.bfloat16
    module = network.module.eval().requires_grad_(False).to(dtype)
    if dtype != torch.float32:
        keep_norms_in_f32(module, dtype)
    _fill_with_placeholders(module)
    names = [tensor.name for tensor in network.inputs]
    results = [tensor.name for tensor in network.outputs]
    kinds = {**TORCH_DTYPES, request.dtype: dtype, "f32": torch.float32}
    inputs = [
        torch.zeros(tensor.at(request.rows(1)), dtype=kinds[tensor.dtype])
        for tensor in network.inputs
    ]
    with TemporaryDirectory() as scratch, torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        path = Path(scratch) / "traced.onnx"
        # The tracing exporter, without folding: it keeps the weights' names and layouts.
        torch.onnx.export(
            module,
            tuple(inputs),
            path,
            dynamo=False,
            opset_version=OPSETS["f32"],
            do_constant_folding=False,
            export_params=False,
            input_names=names,
            output_names=results,
            dynamic_axes={name: {0: BATCH_AXIS} for name in (*names, *results)},
        )
        return onnx.load(str(path))


def _fill_with_placeholders(module: nn.Module) -> None:
    """Gives every weight of a module on "meta" one number for all its elements."""
    state = {}
    for index, (key, value) in enumerate(module.state_dict().items()):
        bits = torch.tensor([FIRST_PLACEHOLDER + index], dtype=torch.int16)
        state[key] = bits.view(torch.bfloat16).to(value.dtype).expand(value.shape)
    module.load_state_dict(state, assign=True)


def _weights_of(model: ModelProto, network: Network) -> dict[str, int]:
    """Name -> ONNX type of every weight that the graph reads; takes them out of its inputs."""
    names = {tensor.name for tensor in network.inputs}
    used = {name for node in model.graph.node for name in node.input}
    inputs = list(model.graph.input)
    del model.graph.input[:]
    model.graph.input.extend(item for item in inputs if item.name in names)
    return {
        item.name: item.type.tensor_type.elem_type for item in inputs if item.name in used - names
    }


def _copy_constants(
    weights: dict[str, int],
    narrow: dict[str, int],
    network: Network,
    path: Path,
    request: ExportRequest,
    report: Report,
) -> dict[str, StoredTensor]:
    """Writes the constants' file; where each lies in it, by the graph's name.

    A graph in f32 keeps the model's own type where that is narrower, and widens it when loaded.

    Args:
        narrow: the weights that are read in 8 bits, and the axis of their output channels.
    """
    source = stored_tensors(network.weights)
    file = WeightFile(network.weights)
    scales = {name + SCALE_SUFFIX for name in narrow}
    keys = {name.removeprefix(network.prefix): name for name in weights if name not in scales}
    missing = sorted(keys.keys() - source.keys())
    if missing:
        raise ModelError(f"{network.weights} lacks {len(missing)} weights, {missing[:3]} for one")
    layout: dict[str, tuple[tuple[int, ...], torch.dtype]] = {}
    for key, shape in file.shapes.items():
        if key not in keys:
            continue
        name = keys[key]
        turned = narrow.get(name) == 1
        layout[name] = (
            shape[::-1] if turned else shape,
            _stored_as(weights[name], source[key].dtype),
        )
        if name in narrow:
            layout[name + SCALE_SUFFIX] = (shape[:1], torch.float16)
    total = sum(torch.Size(shape).numel() * dtype.itemsize for shape, dtype in layout.values())

    def cast() -> Iterator[tuple[str, Tensor]]:
        done = 0
        for key, tensor in file.tensors(key for key in file.shapes if key in keys):
            name = keys[key]
            for part, wanted in _as_stored(name, tensor, narrow, layout[name][1]):
                done += wanted.nbytes
                report(f"{request.name}: constants", done, total)
                yield part, wanted

    write_safetensors(path, layout, cast())
    return stored_tensors(path)


def _as_stored(
    name: str, tensor: Tensor, narrow: dict[str, int], dtype: torch.dtype
) -> Iterator[tuple[str, Tensor]]:
    """What is stored of a weight: itself in that type; of one in 8 bits also its scales."""
    if name not in narrow:
        yield name, tensor.to(dtype)
        return
    scale = weight_scale(tensor.float())
    quantised = to_f8(tensor, along_outputs(scale, tensor))
    yield name, quantised.t() if narrow[name] == 1 else quantised
    yield name + SCALE_SUFFIX, scale


def _stored_as(onnx_type: int, stored: str) -> torch.dtype:
    if onnx_type == TensorProto.FLOAT and stored in _NARROW:
        return _NARROW[stored]
    return _DTYPES[onnx_type]


def _state_shapes(model: ModelProto, network: Network) -> None:
    """Gives inputs and outputs their shapes in numbers: the exporter names what it cannot prove."""
    specs = {tensor.name: tensor for tensor in (*network.inputs, *network.outputs)}
    for item in (*model.graph.input, *model.graph.output):
        kind = item.type.tensor_type.elem_type
        item.CopyFrom(helper.make_tensor_value_info(item.name, kind, specs[item.name].shape))
