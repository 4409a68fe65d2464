"""The default on CPUs: OpenVINO over the folder's ONNX graphs, on one thread.

One thread, because two collapse beside other load: each layer ends in a
barrier that waits for a thread the system has taken away. bf16 where the CPU
has units for it (half the time of f32), else f32.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import openvino as ov

from engine.backends.onnx_graphs import GraphBackend
from engine.backends.openvino_plans import OpenVinoPlans
from engine.errors import BackendError
from engine.media import F32
from engine.plans.cache import OpenPlan, PlanCache
from engine.spec import ModelSpec

Precision = Literal["f32", "bf16"]
Shapes = tuple[tuple[str, tuple[int, ...]], ...]


class OpenVinoRunner:
    """Compiled graphs by their shapes; inputs are read where they lie."""

    def __init__(
        self,
        model_dir: Path,
        precision: str | None,
        spec: ModelSpec | None = None,
        plans: PlanCache | None = None,
    ) -> None:
        """
        Args:
            spec: how the model is run, a part of its plans' key.
            plans: where compiled graphs are kept; None: compiled at every start.
        """
        self._folder = model_dir
        self._core = ov.Core()
        native = self._core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        self.precision = precision or ("bf16" if "BF16" in native else "f32")
        self.name = f"openvino-{self.precision}"
        self._settings: dict[str, str | int] = {
            "INFERENCE_PRECISION_HINT": self.precision,
            "INFERENCE_NUM_THREADS": 1,
            "PERFORMANCE_HINT": "LATENCY",
        }
        self._plans: OpenVinoPlans | None = None
        if plans is not None:
            spec = spec or ModelSpec.read(model_dir)
            self._plans = OpenVinoPlans(plans, self._core, model_dir, spec, self._settings)
        self._in_use: list[OpenPlan[ov.CompiledModel]] = []
        self._models: dict[str, ov.Model] = {}
        self._requests: dict[tuple[str, Shapes], ov.InferRequest] = {}

    def ring_shapes(self) -> list[tuple[int, int]]:
        """(tokens, channels) of every ring that the U-Net's graph takes."""
        rings = [
            item.get_partial_shape()
            for item in self._read("unet").inputs
            if item.get_any_name().startswith("ring_")
        ]
        return [(shape[3].get_length(), shape[4].get_length()) for shape in rings]

    def compile(self, graph: str, shapes: Mapping[str, tuple[int, ...]]) -> None:
        """Compiles a graph for these input shapes, once."""
        key = (graph, tuple(shapes.items()))
        if key in self._requests:
            return
        if self._plans is None:
            compiled = self._compiled(graph, shapes)
        else:
            opened = self._plans.open(graph, shapes, lambda: self._compiled(graph, shapes))
            self._in_use.append(opened)
            compiled = opened.plan
        self._requests[key] = compiled.create_infer_request()

    def run(self, graph: str, inputs: Mapping[str, F32]) -> list[F32]:
        """The outputs, as views of the request's own memory."""
        shapes = {name: value.shape for name, value in inputs.items()}
        key = (graph, tuple(shapes.items()))
        if key not in self._requests:
            self.compile(graph, shapes)
        request = self._requests[key]
        for name, value in inputs.items():
            request.set_tensor(name, ov.Tensor(value, shared_memory=True))
        request.infer()
        return [tensor.data for tensor in request.output_tensors]

    def _compiled(self, graph: str, shapes: Mapping[str, tuple[int, ...]]) -> ov.CompiledModel:
        model = self._read(graph)
        try:
            model.reshape({name: list(shape) for name, shape in shapes.items()})
            return self._core.compile_model(model, "CPU", self._settings)
        except RuntimeError as error:
            raise BackendError(
                f"openvino refused {graph}.onnx at {dict(shapes)}: {error}"
            ) from error

    def _read(self, graph: str) -> ov.Model:
        if graph not in self._models:
            path = self._folder / f"{graph}.onnx"
            try:
                self._models[graph] = self._core.read_model(path)
            except RuntimeError as error:
                raise BackendError(f"openvino cannot read {path}: {error}") from error
        return self._models[graph]


def open_model(
    model_dir: Path,
    precision: str | None = None,
    spec: ModelSpec | None = None,
    plans: PlanCache | None = None,
) -> GraphBackend:
    """The OpenVINO backend for a model folder.

    Args:
        spec: how the model is run; None: as its folder says.
        plans: where compiled graphs are kept; None: compiled at every start.

    Raises:
        BackendError: the graphs cannot be read or compiled, or another precision than f32 or
            bf16 is asked for.
    """
    if precision not in (None, "f32", "bf16"):
        raise BackendError(f"openvino runs f32 or bf16 on a CPU, asked for {precision}")
    spec = spec or ModelSpec.read(model_dir)
    return GraphBackend(spec, OpenVinoRunner(model_dir, precision, spec, plans))
