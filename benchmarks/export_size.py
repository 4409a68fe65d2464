"""Exports one network of the published size, with its memory, disk and times.

    python -m benchmarks.export_size --component unet --precision f16 --json result.json

Writes a model folder of LatentSync 1.5's architecture with synthetic weights in f16, as `lipwire
fetch` stores them, a tensor at a time; then exports from it in a process of its own, whose peak
memory is the export's. The U-Net needs 6 GB of disk; nothing is kept. For f8 the whole model is
written and streams, though for a few hops only: a hop of this U-Net takes a CPU minutes.
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
from collections.abc import Iterator
from dataclasses import asdict, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.full_size import cpu_name, memory_mb
from benchmarks.synthetic import spec_of
from engine.models.build import build_audio_encoder, build_codec, build_unet
from engine.models.temporal import position_table
from engine.models.weight_files import write_safetensors
from engine.models.whisper import sinusoids
from engine.published import LATENTSYNC_1_5
from engine.spec import ModelSpec
from export.component_export import export_component
from export.f8.recipe import Recipe
from export.networks import empty_network
from export.request import COMPONENTS, PRECISIONS, ExportRequest
from export.targets import TARGETS, load_target

SEED = 0
# The last weights of residual branches. With these as large as all others a random network adds up
# its rounding until no layer may be in 8 bits, and finding that out takes a pass for each of them.
BRANCH_ENDS = (".conv2.weight", ".to_out.0.weight", ".ff.net.2.weight", ".proj_out.weight")
F8_BRANCH_GAIN = 0.05


def write_synthetic_model(
    folder: Path, spec: ModelSpec, component: str, branch_gain: float = 1.0
) -> None:
    """The part of a model folder that a component needs, weights in f16, none of it in memory.

    Args:
        branch_gain: of what residual branches add.
    """
    with torch.device("meta"):
        module: nn.Module
        match component:
            case "unet":
                name, module = "unet", build_unet(spec)
            case "audio":
                name, module = "audio_encoder", build_audio_encoder(spec)
            case _:
                name, module = "codec", build_codec(spec)
    shapes = {key: tuple(value.shape) for key, value in module.state_dict().items()}
    layout = {key: (shape, torch.float16) for key, shape in shapes.items()}
    write_safetensors(folder / f"{name}.safetensors", layout, _synthetic(shapes, branch_gain))
    (folder / "model.json").write_text(replace(spec, digests={}).to_json(), encoding="utf-8")


def _synthetic(
    shapes: dict[str, tuple[int, ...]], branch_gain: float
) -> Iterator[tuple[str, Tensor]]:
    """Matrices keep the scale of their inputs, so that no output explodes or vanishes."""
    generator = torch.Generator().manual_seed(SEED)
    for key, shape in shapes.items():
        if key.endswith("pos_encoder.pe"):
            value = position_table(shape[2], shape[1])
        elif key.endswith("positional_embedding"):
            value = sinusoids(*shape)
        elif len(shape) > 1:
            value = torch.randn(shape, generator=generator)
            value /= value[0].numel() ** 0.5
            value *= branch_gain if key.endswith(BRANCH_ENDS) else 1.0
        else:
            value = 0.1 * torch.randn(shape, generator=generator) + float(key.endswith("weight"))
        yield key, value.half()


def export_and_measure(options: argparse.Namespace, work: Path) -> dict[str, Any]:
    """The export's record in short, its steps' seconds, and this process's peak memory."""
    before = memory_mb()["rss_mb"]
    request = ExportRequest.of(
        work / "model",
        options.component,
        hop_frames=options.hop,
        batches=(1,),
        precision=options.precision,
    )
    starts: dict[str, tuple[float, float]] = {}
    peaks: dict[str, int] = {}

    def note(step: str, _done: int, _total: int) -> None:
        starts.setdefault(step, (time.perf_counter(), time.process_time()))
        peaks[step] = memory_mb()["peak_rss_mb"]  # up to here, so that of the steps before

    recipe = Recipe(sessions=options.sessions, hops=options.hops)
    record = export_component(load_target(options.target), request, work / "out", note, recipe)
    note("end", 0, 0)
    steps = list(starts)
    assert record.worst is not None
    return {
        "parameters": _parameters(request),
        "rss_before_mb": before,
        **memory_mb(),
        "steps": {
            step: {
                "s": round(starts[after][0] - starts[step][0], 1),
                "cpu_s": round(starts[after][1] - starts[step][1], 1),
                "peak_rss_mb": peaks[after],
            }
            for step, after in pairwise(steps)
        },
        "files_mb": {
            name: round((work / "out" / name).stat().st_size / 1e6, 1) for name in record.files
        },
        "inputs": len(record.inputs),
        "outputs": len(record.outputs),
        "runtime": record.runtime,
        "tolerance": record.tolerance,
        "worst": asdict(record.worst),
        "largest_activation": record.largest_activation,
        "quantisation": None if record.quantisation is None else _in_short(record.quantisation),
        "passed": record.passed,
    }


def _in_short(quantisation: dict[str, Any]) -> dict[str, Any]:
    """Without the range of each layer."""
    return {
        "sessions": quantisation["recipe"]["sessions"],
        "hops": quantisation["recipe"]["hops"],
        "layers_in_8_bits": len(quantisation["ranges"]) - len(quantisation["kept"]),
        "kept_in_f16": quantisation["kept"],
    }


def _parameters(request: ExportRequest) -> int:
    return sum(value.numel() for value in empty_network(request).module.parameters())


def main(arguments: list[str] | None = None) -> int:
    """Runs the command; 0 if the export passed."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.export_size",
        description=(__doc__ or "").split("\n\n")[0],
        epilog="example: python -m benchmarks.export_size --small --component decoder",
    )
    parser.add_argument("--component", choices=COMPONENTS, default="unet")
    parser.add_argument("--precision", choices=PRECISIONS, default="f16")
    parser.add_argument("--target", choices=list(TARGETS), default="onnx")
    parser.add_argument("--hop", type=int, default=LATENTSYNC_1_5.hop_frames)
    parser.add_argument("--sessions", type=int, default=1, help="of f8's calibration")
    parser.add_argument("--hops", type=int, default=2, help="of each of them")
    parser.add_argument("--small", action="store_true", help="the same kind of model in seconds")
    parser.add_argument("--work", type=Path, help="parent of the folder for the files")
    parser.add_argument("--json", type=Path, help="write the result to a file")
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.measure:
        sys.stdout.write(json.dumps(export_and_measure(options, options.measure)))
        return 0
    given = list(sys.argv[1:] if arguments is None else arguments)
    work = Path(tempfile.mkdtemp(prefix="lipwire-export-", dir=options.work))
    try:
        (work / "model").mkdir()
        spec = spec_of("tiny", codec="kl") if options.small else LATENTSYNC_1_5
        spec = replace(spec, carry="carry")
        # A stream takes the whole model.
        parts = ("unet", "decoder", "audio") if options.precision == "f8" else (options.component,)
        for part in parts:
            gain = F8_BRANCH_GAIN if options.precision == "f8" else 1.0
            write_synthetic_model(work / "model", spec, part, gain)
        command = [sys.executable, "-m", "benchmarks.export_size", *given, "--measure", str(work)]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
        if done.returncode:
            return 1
    finally:
        shutil.rmtree(work)
    report = {
        "command": f"python -m benchmarks.export_size --component {options.component} "
        f"--precision {options.precision} --target {options.target} --hop {options.hop}",
        "machine": {
            "cpu": cpu_name(),
            "cores": os.cpu_count(),
            "threads": torch.get_num_threads(),
            "note": "2 shared cores, beside other load",
            "gpu": "none",
            "python": platform.python_version(),
            "torch": torch.__version__,
        },
        "component": options.component,
        "target": options.target,
        "precision": options.precision,
        "hop_frames": options.hop,
        "small": options.small,
        **json.loads(done.stdout),
    }
    text = json.dumps(report, indent=2) + "\n"
    if options.json:
        options.json.write_text(text, encoding="utf-8")
    else:
        sys.stdout.write(text)
    return 0 if report["passed"] else 1


if __name__ == "__main__":
    sys.exit(main())
