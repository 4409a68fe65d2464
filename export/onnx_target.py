"""Target `onnx`: the graph itself and its constants.

Checked with onnxruntime; in bf16, which its CPU kernels lack, with OpenVINO.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import onnx
import onnxruntime
import torch
from torch import Tensor

from engine.errors import BackendError
from export.component_graph import ComponentGraph, write_graph
from export.openvino_run import OpenVinoGraph, openvino_runtime
from export.request import Component, ExportRequest, Precision
from export.targets import Built, Report

ERRORS_ONLY = 3  # onnxruntime's log severity
_AS_IT_IS = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL


class OnnxTarget:
    """Writes ONNX files."""

    name = "onnx"

    def unavailable(self) -> str | None:
        return None

    def refuses(self, component: Component, precision: Precision) -> str | None:
        return None

    def build(self, request: ExportRequest, folder: Path, report: Report) -> Built:
        graph = write_graph(request, folder, report)
        files = (graph.path, graph.constants)
        versions = {"torch": torch.__version__, "onnx": onnx.__version__}
        if request.precision == "bf16":
            runner = OpenVinoGraph(graph.path, "f32")
            return Built(files, openvino_runtime("f32"), runner.run, versions=versions)
        runtime = f"onnxruntime {onnxruntime.__version__}, CPU"
        return Built(files, runtime, OnnxRuntimeGraph(graph).run, versions=versions)


class OnnxRuntimeGraph:
    """A graph in onnxruntime, on one thread, opened at its first run."""

    def __init__(self, graph: ComponentGraph) -> None:
        self._graph = graph
        self._session: onnxruntime.InferenceSession | None = None

    def run(self, inputs: Sequence[Tensor]) -> list[Tensor]:
        """The outputs.

        Raises:
            BackendError: onnxruntime refuses the graph, or cannot run it at these shapes.
        """
        names = [tensor.name for tensor in self._graph.inputs]
        feed = {name: value.numpy() for name, value in zip(names, inputs, strict=True)}
        try:
            if self._session is None:
                options = onnxruntime.SessionOptions()
                options.intra_op_num_threads = 1
                options.log_severity_level = ERRORS_ONLY
                # Neither folded nor packed copies of the weights: they stay in their file. And it
                # is the graph that is checked, not what onnxruntime would make of it.
                options.graph_optimization_level = _AS_IT_IS
                options.enable_cpu_mem_arena = False
                options.add_session_config_entry("session.disable_prepacking", "1")
                self._session = onnxruntime.InferenceSession(
                    str(self._graph.path), options, ["CPUExecutionProvider"]
                )
            return [torch.from_numpy(value) for value in self._session.run(None, feed)]
        except Exception as error:  # its errors share no narrower base
            raise BackendError(f"onnxruntime refused {self._graph.path}: {error}") from error


TARGET = OnnxTarget()
