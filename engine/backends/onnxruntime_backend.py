"""onnxruntime over the folder's ONNX graphs: fp32, one thread, for CPUs without OpenVINO."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import onnxruntime

from engine.backends.onnx_graphs import GraphBackend
from engine.errors import BackendError
from engine.media import F32
from engine.spec import ModelSpec

ERRORS_ONLY = 3  # onnxruntime's log severity


class OnnxRuntimeRunner:
    """Sessions by their shapes; the free dimensions are fixed so that shape sums fold away."""

    name = "onnxruntime-f32"

    def __init__(self, model_dir: Path) -> None:
        self._folder = model_dir
        self._sessions: dict[tuple[str, tuple[int, ...]], onnxruntime.InferenceSession] = {}
        self._unet_inputs: list[tuple[str, list[int | str]]] = []

    def ring_shapes(self) -> list[tuple[int, int]]:
        """(tokens, channels) of every ring that the U-Net's graph takes."""
        inputs = self._open("unet", {}).get_inputs()
        return [(item.shape[3], item.shape[4]) for item in inputs if item.name.startswith("ring_")]

    def compile(self, graph: str, shapes: Mapping[str, tuple[int, ...]]) -> None:
        """Opens a graph for these input shapes, once."""
        key = (graph, next(iter(shapes.values())))
        if key in self._sessions:
            return
        free = {"batch": key[1][0]}
        if graph == "unet":
            free |= {"hop": shapes["sample"][2], "context": shapes["valid"][1]}
        self._sessions[key] = self._open(graph, free)

    def run(self, graph: str, inputs: Mapping[str, F32]) -> list[F32]:
        """The outputs, fresh arrays."""
        shapes = {name: value.shape for name, value in inputs.items()}
        self.compile(graph, shapes)
        session = self._sessions[graph, next(iter(shapes.values()))]
        outputs: list[F32] = session.run(None, dict(inputs))
        return outputs

    def _open(self, graph: str, free: Mapping[str, int]) -> onnxruntime.InferenceSession:
        path = self._folder / f"{graph}.onnx"
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.log_severity_level = ERRORS_ONLY
        for name, value in free.items():
            options.add_free_dimension_override_by_name(name, value)
        try:
            return onnxruntime.InferenceSession(str(path), options, ["CPUExecutionProvider"])
        except Exception as error:  # its errors share no narrower base
            raise BackendError(f"onnxruntime refused {path}: {error}") from error


def open_model(
    model_dir: Path, precision: str | None = None, spec: ModelSpec | None = None
) -> GraphBackend:
    """The onnxruntime backend for a model folder.

    Args:
        spec: how the model is run; None: as its folder says.

    Raises:
        BackendError: the graphs cannot be read, or another precision than f32 is asked for.
    """
    if precision not in (None, "f32"):
        raise BackendError(f"onnxruntime runs f32 only, asked for {precision}")
    return GraphBackend(spec or ModelSpec.read(model_dir), OnnxRuntimeRunner(model_dir))
