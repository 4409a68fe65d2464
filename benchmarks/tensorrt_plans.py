"""Builds plans with TensorRT-RTX, a GPU or none: seconds, size and peak memory; and tries to load.

    python -m benchmarks.tensorrt_plans --json benchmarks/results/tensorrt_plans.json
    python -m benchmarks.tensorrt_plans --model published --components decoder unet --batches 1

`published` is LatentSync 1.5's architecture with synthetic weights in f16, in the mode "carry": its
U-Net needs 8 GB of disk. Every plan is built in a process of its own, whose peak memory is the
build's; nothing is kept but the figures.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.export_size import write_synthetic_model
from benchmarks.full_size import cpu_name, memory_mb
from engine.errors import LipwireError
from engine.published import LATENTSYNC_1_5
from export.component_graph import write_graph
from export.f8.prepare import prepared
from export.request import COMPONENTS, PRECISIONS, ExportRequest
from export.tensorrt_builder import build_plan, load_compiler
from export.tensorrt_load import load_refusal


def measured_build(options: argparse.Namespace, model: str | Path, work: Path) -> dict[str, Any]:
    """One plan's figures; with `error` in place of the plan's where the compiler refuses."""
    compiler = load_compiler("tensorrt_rtx")
    request = ExportRequest.of(
        model,
        options.components[0],
        hop_frames=options.hop,
        batches=tuple(options.batches),
        precision=options.precisions[0],
    )
    if request.precision == "f8":
        request, _ = prepared(request)
    started = time.perf_counter()
    graph = write_graph(request, work)
    traced = time.perf_counter()
    exporting = memory_mb()["peak_rss_mb"]
    figures: dict[str, Any] = {
        "component": request.component,
        "precision": request.precision,
        "hop_frames": request.hop_frames,
        "batches": list(request.batches),
        "nodes": graph.nodes,
        "constants_mb": round(graph.constants.stat().st_size / 1e6, 1),
        "export_s": round(traced - started, 1),
        "export_peak_rss_mb": exporting,
    }
    cpu = time.process_time()
    try:
        plan = build_plan(compiler, graph)
    except LipwireError as error:
        figures["error"] = str(error)
    else:
        figures |= {
            "plan_mb": round(len(plan.data) / 1e6, 1),
            "layers": plan.layers,
            "log": sorted(set(plan.log)),
            "build_s": round(time.perf_counter() - traced, 1),
            "build_cpu_s": round(time.process_time() - cpu, 1),
            "peak_rss_mb": memory_mb()["peak_rss_mb"],
            "load_refusal": load_refusal(compiler, plan, graph),
        }
    return figures


def _in_a_process(
    options: argparse.Namespace, component: str, precision: str, work: Path
) -> dict[str, Any]:
    model: str | Path = options.model
    if options.model == "published":
        model = work / "model"
        model.mkdir()
        write_synthetic_model(model, replace(LATENTSYNC_1_5, carry="carry"), component)
    batches = map(str, options.batches)
    command = [sys.executable, "-m", "benchmarks.tensorrt_plans", "--model", str(model)]
    command += ["--components", component, "--precisions", precision, "--batches", *batches]
    command += ["--hop", str(options.hop), "--measure", str(work)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:  # killed for memory, most likely: the case is reported, not lost
        error = f"the process ended with status {done.returncode}"
        return {"component": component, "precision": precision, "error": error}
    figures: dict[str, Any] = json.loads(done.stdout)
    return figures


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; 0 if every plan was built."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.tensorrt_plans",
        description=(__doc__ or "").split("\n\n")[0],
        epilog="example: python -m benchmarks.tensorrt_plans --components decoder --batches 1",
    )
    parser.add_argument("--model", default="bundled", help="name, folder, or `published`")
    parser.add_argument("--components", nargs="+", choices=COMPONENTS, default=list(COMPONENTS))
    parser.add_argument("--precisions", nargs="+", choices=PRECISIONS, default=["f32", "f16"])
    parser.add_argument("--batches", nargs="+", type=int, default=[1])
    parser.add_argument("--hop", type=int, default=4)
    parser.add_argument("--work", type=Path, help="parent of the folder for the files")
    parser.add_argument("--json", type=Path, help="write the result to a file")
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.measure:
        figures = measured_build(options, options.model, options.measure)
        sys.stdout.write(json.dumps(figures))
        return 0
    plans = []
    for component in options.components:
        for precision in options.precisions:
            work = Path(tempfile.mkdtemp(prefix="lipwire-plans-", dir=options.work))
            try:
                plans.append(_in_a_process(options, component, precision, work))
            finally:
                shutil.rmtree(work)
            sys.stderr.write(json.dumps(plans[-1]) + "\n")
    report = {
        "command": f"python -m benchmarks.tensorrt_plans --model {options.model} "
        f"--components {' '.join(options.components)} --precisions "
        f"{' '.join(options.precisions)} --batches {' '.join(map(str, options.batches))}",
        "machine": {
            "cpu": cpu_name(),
            "cores": os.cpu_count(),
            "note": "2 shared cores, beside other load",
            "gpu": "none",
            "python": platform.python_version(),
            "tensorrt_rtx": load_compiler("tensorrt_rtx").version,
        },
        "plans": plans,
    }
    text = json.dumps(report, indent=2) + "\n"
    if options.json:
        options.json.write_text(text, encoding="utf-8")
    else:
        sys.stdout.write(text)
    return int(any("error" in plan for plan in plans))


if __name__ == "__main__":
    sys.exit(main())
