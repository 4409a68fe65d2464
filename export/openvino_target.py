"""Target `openvino`: an IR (.xml and .bin), made from the ONNX graph.

Through ONNX, because converting torch directly takes fifty times as long. The IR's types are
those of an f32 graph: what OpenVINO computes in is a hint to its compiler, which decides by itself
what it leaves in f32. So `bf16` is checked with that hint, and `f16` means constants of 16 bits,
which a CPU widens and a GPU computes in.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import openvino as ov
import torch
from torch import Tensor

from engine.errors import BackendError
from export.component_graph import write_graph
from export.openvino_run import OpenVinoGraph, openvino_runtime
from export.request import Component, ExportRequest, Precision
from export.targets import Built, Report, lacks_f8


class OpenVinoTarget:
    """Writes OpenVINO's own files."""

    name = "openvino"

    def unavailable(self) -> str | None:
        return None

    def refuses(self, component: Component, precision: Precision) -> str | None:
        return lacks_f8(self.name, precision)

    def build(self, request: ExportRequest, folder: Path, report: Report) -> Built:
        path = folder / f"{request.name}.xml"
        narrow = request.precision != "f32"
        with TemporaryDirectory(dir=folder) as scratch:
            graph = write_graph(
                dataclasses.replace(request, precision="f32"), Path(scratch), report
            )
            report(f"{request.name}: OpenVINO's passes", 0, 0)
            try:
                model = ov.Core().read_model(graph.path)
                ov.save_model(model, path, compress_to_fp16=narrow)
            except RuntimeError as error:
                raise BackendError(f"openvino refused {graph.path}: {error}") from error
            del model  # it maps the file that is removed here
        hint = "bf16" if request.precision == "bf16" else "f32"
        return Built(
            (path, path.with_suffix(".bin")),
            openvino_runtime(hint),
            _of_f32(OpenVinoGraph(path, hint)),
            versions={"torch": torch.__version__, "openvino": ov.get_version()},
        )


def _of_f32(graph: OpenVinoGraph) -> Callable[[Sequence[Tensor]], list[Tensor]]:
    """Runs a graph whose numbers are f32 on inputs of any width."""

    def run(inputs: Sequence[Tensor]) -> list[Tensor]:
        return graph.run(
            [value.float() if value.is_floating_point() else value for value in inputs]
        )

    return run


TARGET = OpenVinoTarget()
