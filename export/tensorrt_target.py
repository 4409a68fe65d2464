"""Targets `tensorrt` and `tensorrt-rtx`: a plan, and what it is beside it (.plan and .plan.json).

The manifest has the key that the plan depends on, the digest of that key, every input and output,
the batch of each profile, and the build log. What was built is not run here: a plan runs on a GPU
only. The graph that it is built from is the one of target `onnx`, where it is held against torch.
"""

from __future__ import annotations

import importlib.util
import json
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory

import onnx
import torch

from engine.checkpoints import file_digest
from engine.plans.key import PlanKey, served_spec
from export.component_graph import ComponentGraph, write_graph
from export.request import Component, ExportRequest, Precision
from export.targets import Built, Report, refuses_f8
from export.tensorrt_builder import Compiler, CompilerName, Plan, build_plan, load_compiler
from export.tensorrt_load import load_refusal

MANIFEST_SCHEMA = 1
AHEAD_OF_TIME = "Ampere and later"  # TensorRT-RTX's default, for one plan that fits all of them


class TensorRtTarget:
    """Writes plans."""

    def __init__(self, name: str, compiler: CompilerName) -> None:
        """
        Args:
            name: as `lipwire export --target` has it.
            compiler: the package that builds.
        """
        self.name = name
        self._compiler: CompilerName = compiler

    def unavailable(self) -> str | None:
        if importlib.util.find_spec(self._compiler) is None:
            where = "" if self._compiler == "tensorrt_rtx" else ", on a machine with an NVIDIA GPU"
            return f"{self._compiler} is not installed; pip install {self._compiler}{where}"
        if self._compiler == "tensorrt" and not torch.cuda.is_available():
            return (
                f"tensorrt builds for the GPU at hand, and torch {torch.__version__} sees none; "
                "tensorrt-rtx builds without one"
            )
        return None

    def refuses(self, component: Component, precision: Precision) -> str | None:
        return refuses_f8(self.name, component, precision)

    def build(self, request: ExportRequest, folder: Path, report: Report) -> Built:
        compiler = load_compiler(self._compiler)
        path = folder / f"{request.name}.plan"
        with TemporaryDirectory(dir=folder) as scratch:
            graph = write_graph(request, Path(scratch), report)
            report(f"{request.name}: {self.name}, a profile for each of {request.batches}", 0, 0)
            plan = build_plan(compiler, graph)
            key = plan_key(compiler, graph, device_of(self._compiler))
            refusal = load_refusal(compiler, plan, graph)
        path.write_bytes(plan.data)
        manifest = path.with_suffix(".plan.json")
        manifest.write_text(_manifest_text(key, graph, plan), encoding="utf-8")
        return Built(
            (path, manifest),
            f"{self.name} {compiler.version}",
            None,
            f"{_loading(refusal)}; --target onnx holds the same graph against torch",
            key.versions,
        )


def plan_key(compiler: Compiler, graph: ComponentGraph, device: dict[str, str]) -> PlanKey:
    """All that the plan of a graph depends on.

    Args:
        graph: whose files are still there.
        device: that it is built for, from `device_of`.
    """
    request = graph.request
    largest = request.rows(request.batches[-1])
    return PlanKey(
        component=request.name,
        graph_sha256=file_digest(graph.path),
        weights_sha256=file_digest(graph.constants),
        spec=served_spec(request.spec),
        hop_frames=request.hop_frames,
        batch=request.batches[-1],
        shapes={tensor.name: tensor.at(largest) for tensor in graph.inputs},
        precision=request.precision,
        backend=compiler.name,
        versions={
            compiler.name: compiler.version,
            "torch": torch.__version__,
            "onnx": onnx.__version__,
        },
        device=device,
        flags={
            "profiles": ",".join(map(str, request.batches)),
            "tf32": "off",
            "quantisation": request.quantisation.digest() if request.quantisation else "none",
        },
    )


def device_of(compiler: CompilerName) -> dict[str, str]:
    """What plans of this compiler are built for on this machine."""
    if compiler == "tensorrt_rtx":
        return {"name": AHEAD_OF_TIME}
    about = torch.cuda.get_device_properties(0)
    return {
        "name": about.name,
        "capability": f"{about.major}.{about.minor}",
        "memory": str(about.total_memory),
        "cuda": str(torch.version.cuda),
    }


def _loading(refusal: str) -> str:
    if refusal:
        return f"a plan runs on an NVIDIA GPU only, and this machine does not load it: {refusal}"
    return "this machine loads the plan, and an export runs none"


def _manifest_text(key: PlanKey, graph: ComponentGraph, plan: Plan) -> str:
    manifest = {
        "schema_version": MANIFEST_SCHEMA,
        "key_sha256": key.digest(),
        "key": key.to_dict(),
        "inputs": [asdict(tensor) for tensor in graph.inputs],
        "outputs": [asdict(tensor) for tensor in graph.outputs],
        "profiles": plan.profiles,
        "layers": plan.layers,
        "log": plan.log,
    }
    return json.dumps(manifest, indent=1) + "\n"


TENSORRT = TensorRtTarget("tensorrt", "tensorrt")
TENSORRT_RTX = TensorRtTarget("tensorrt-rtx", "tensorrt_rtx")
