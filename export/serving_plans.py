"""Every graph that the TensorRT backend runs a model with, in one folder."""

from __future__ import annotations

from pathlib import Path

from export.component_graph import write_graph
from export.f8.prepare import prepared
from export.f8.recipe import DEFAULT_RECIPE, Recipe
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
    graphs: list[Graph] = []
    for component in COMPONENTS:
        own: Precision = "f16" if precision == "f8" and component != "unet" else precision
        request = ExportRequest.of(
            model, component, hop_frames=hop_frames, batches=batches, precision=own
        )
        if own == "f8":
            request, _ = prepared(request, recipe, report)
        graphs.append(write_graph(request, folder, report))
    return [*graphs, *write_hop_graphs(request, folder)]
