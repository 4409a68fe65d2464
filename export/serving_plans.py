"""Every graph that the TensorRT backend runs a model with, in one folder."""

from __future__ import annotations

from pathlib import Path

from export.component_graph import write_graph
from export.hop_graphs import write_hop_graphs
from export.request import COMPONENTS, ExportRequest, Precision
from export.targets import Report, silent
from export.tensorrt_builder import Graph


def write_serving_graphs(
    model: str | Path,
    folder: Path,
    *,
    hop_frames: int,
    batches: tuple[int, ...],
    precision: Precision,
    report: Report = silent,
) -> list[Graph]:
    """The networks of a model and what happens between them, written as ONNX.

    Args:
        folder: exists; files of their names are overwritten.

    Raises:
        ModelError, ConfigError: as of `ExportRequest.of` and `write_graph`.
    """
    graphs: list[Graph] = []
    for component in COMPONENTS:
        request = ExportRequest.of(
            model, component, hop_frames=hop_frames, batches=batches, precision=precision
        )
        graphs.append(write_graph(request, folder, report))
    return [*graphs, *write_hop_graphs(request, folder)]
