"""Target `onnx`: the graph itself and its constants.

Checked with onnxruntime; in bf16, which its CPU kernels lack, with OpenVINO.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from pathlib import Path

import onnx
import onnxruntime
import torch
from torch import Tensor

from export.component_graph import write_graph
from export.openvino_run import OpenVinoGraph, openvino_runtime
from export.parity import ReferenceGraph
from export.request import Component, ExportRequest, Precision
from export.targets import Built, Report, refuses_f8


class OnnxTarget:
    """Writes ONNX files."""

    name = "onnx"

    def unavailable(self) -> str | None:
        return None

    def refuses(self, component: Component, precision: Precision) -> str | None:
        return refuses_f8(self.name, component, precision)

    def build(self, request: ExportRequest, folder: Path, report: Report) -> Built:
        graph = write_graph(request, folder, report)
        files = (graph.path, graph.constants)
        versions = {"torch": torch.__version__, "onnx": onnx.__version__}
        if request.precision == "bf16":
            runner = OpenVinoGraph(graph.path, "f32")
            return Built(files, openvino_runtime("f32"), runner.run, versions=versions)
        runtime = f"onnxruntime {onnxruntime.__version__}, CPU"
        return Built(files, runtime, _in_onnxruntime(graph.path), versions=versions)


def _in_onnxruntime(path: Path) -> Callable[[Sequence[Tensor]], list[Tensor]]:
    """Runs a graph; it is opened at the first run, when torch's weights are gone."""

    @functools.cache
    def opened() -> ReferenceGraph:
        return ReferenceGraph(path, as_it_is=True)

    def run(inputs: Sequence[Tensor]) -> list[Tensor]:
        return [torch.from_numpy(value) for value in opened().run(inputs).values()]

    return run


TARGET = OnnxTarget()
