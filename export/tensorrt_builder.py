"""Builds TensorRT plans of exported graphs: one builder for TensorRT and TensorRT-RTX.

    plan = build_plan(load_compiler("tensorrt_rtx"), write_graph(request, folder))

The two packages have one API. Networks are strongly typed: every tensor has the type that the
graph gives it, and no flag changes it. A plan has one profile for each batch asked for, of which
lowest, best and highest shape are the same, because a captured CUDA graph has fixed shapes.

TensorRT-RTX builds without a GPU, one plan for Ampere and later (NVIDIA's manual, "CPU-Only AOT"),
and finishes its kernels when the plan is loaded. TensorRT builds for the GPU at hand.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

from engine.errors import BackendError
from engine.plan_runtime.plan_engine import runtime_log
from export.request import BATCH_AXIS, DType, TensorSpec

CompilerName = Literal["tensorrt", "tensorrt_rtx"]

_DTYPES: dict[DType, str] = {
    "f32": "FLOAT",
    "f16": "HALF",
    "bf16": "BF16",
    "i64": "INT64",
    "u8": "UINT8",
}
_OPEN_AXIS = -1


class Graph(Protocol):
    """An ONNX file whose only open axis is the batch."""

    @property
    def name(self) -> str: ...
    @property
    def path(self) -> Path: ...
    @property
    def inputs(self) -> tuple[TensorSpec, ...]: ...
    @property
    def outputs(self) -> tuple[TensorSpec, ...]: ...

    @property
    def batches(self) -> tuple[int, ...]:
        """Sessions a call, one profile each."""

    def rows(self, batch: int) -> int:
        """The length of the batch axis for so many sessions."""


@dataclass(frozen=True, slots=True)
class Compiler:
    """A package that builds plans.

    Attributes:
        api: the imported package; its bindings bring no types that both would share.
    """

    name: CompilerName
    api: Any

    @property
    def version(self) -> str:
        return str(self.api.__version__)


@dataclass(frozen=True, slots=True)
class Plan:
    """A built plan.

    Attributes:
        data: as the runtime reads it, where the compiler left it: gigabytes are not copied.
        profiles: batches, in the order of the plan's profiles.
        layers: of the network before the compiler fused them.
        log: what the compiler had to say, from warnings on.
    """

    data: memoryview
    profiles: tuple[int, ...]
    layers: int
    log: tuple[str, ...]


def load_compiler(name: CompilerName) -> Compiler:
    """The package of that name.

    Raises:
        BackendError: it is not installed, or its libraries cannot be loaded.
    """
    try:
        return Compiler(name, importlib.import_module(name))
    except (ImportError, OSError) as error:
        raise BackendError(f"cannot load {name}: {error}") from error


def build_plan(compiler: Compiler, graph: Graph) -> Plan:
    """The plan of a graph, with a profile for each of the request's batches.

    Raises:
        BackendError: the compiler cannot read or build the graph, with the node that it names; or
            the graph has other inputs and outputs than it should.
    """
    api, name = compiler.api, graph.name
    log = runtime_log(api)
    builder = api.Builder(log)
    network = builder.create_network(_strongly_typed(api))
    parser = api.OnnxParser(network, log)
    if not parser.parse_from_file(str(graph.path)):
        found = [parser.get_error(index) for index in range(parser.num_errors)]
        raise BackendError(f"{compiler.name} cannot read {name}: {'; '.join(map(_words, found))}")
    _check_tensors(api, network, graph)
    config = builder.create_builder_config()
    config.clear_flag(api.BuilderFlag.TF32)  # f32 means f32
    for batch in graph.batches:
        profile = builder.create_optimization_profile()
        for tensor in graph.inputs:
            shape = tensor.at(graph.rows(batch))
            profile.set_shape(tensor.name, shape, shape, shape)
        config.add_optimization_profile(profile)
    data = builder.build_serialized_network(network, config)
    if data is None:
        reasons = "; ".join(log.lines) or "it gave no reason"
        raise BackendError(f"{compiler.name} cannot build {name}: {reasons}")
    return Plan(memoryview(data).cast("B"), graph.batches, network.num_layers, tuple(log.lines))


def _strongly_typed(api: Any) -> int:
    """The network's flags; where there is nothing but strongly typed ones, there is no flag."""
    flag = api.NetworkDefinitionCreationFlag.__members__.get("STRONGLY_TYPED")
    return 0 if flag is None else 1 << int(flag)


def _words(error: Any) -> str:
    node = f"{error.node_operator()} node {error.node_name()!r}" if error.node_operator() else ""
    return f"{node or 'the graph'}: {error.desc()}"


def _check_tensors(api: Any, network: Any, graph: Graph) -> None:
    inputs = [network.get_input(index) for index in range(network.num_inputs)]
    outputs = [network.get_output(index) for index in range(network.num_outputs)]
    for kind, want, got in (
        ("inputs", graph.inputs, inputs),
        ("outputs", graph.outputs, outputs),
    ):
        expected, found = list(described(api, want)), list(_found(got))
        if expected != found:
            odd = [pair for pair in zip(expected, found, strict=False) if pair[0] != pair[1]]
            first = odd[0] if odd else (f"{len(expected)} of them", f"{len(found)}")
            raise BackendError(f"{graph.name}: expected {kind} as {first[0]}, got {first[1]}")


Described = tuple[str, str, tuple[int, ...]]


def described(api: Any, tensors: Sequence[TensorSpec]) -> Iterator[Described]:
    """Name, type and shape of each tensor, as the compiler should have them."""
    for tensor in tensors:
        shape = (_OPEN_AXIS if axis == BATCH_AXIS else int(axis) for axis in tensor.shape)
        yield tensor.name, str(api.DataType.__members__[_DTYPES[tensor.dtype]]), tuple(shape)


def _found(tensors: Sequence[Any]) -> Iterator[Described]:
    for tensor in tensors:
        yield tensor.name, str(tensor.dtype), tuple(tensor.shape)
