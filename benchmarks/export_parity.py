"""Every target that this machine builds for, at every precision: errors against torch, size, time.

    python -m benchmarks.export_parity --json benchmarks/results/export_parity.json
    python -m benchmarks.export_parity --targets onnx --precisions f16 --components decoder

What `lipwire export` does, over and over, with the worst error of each export in one table.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks.full_size import cpu_name
from engine.errors import LipwireError
from export.component_export import ExportRecord, export_component
from export.request import COMPONENTS, PRECISIONS, ExportRequest
from export.targets import TARGETS, load_target


def row(record: ExportRecord, folder: Path, cpu_s: float) -> dict[str, Any]:
    """One export in short: its first output, and whichever is furthest from torch."""
    first = record.outputs[0]["name"]
    errors = [error for error in record.errors if error.output == first]
    worst = record.worst
    return {
        "target": record.target,
        "component": record.component,
        "precision": record.precision,
        "runtime": record.runtime,
        "output": first,
        "largest": max((error.largest for error in errors), default=None),
        "relative": max((error.relative for error in errors), default=None),
        "worst_output": worst.output if worst else None,
        "worst_relative": worst.relative if worst else None,
        "tolerance": record.tolerance,
        "passed": record.passed,
        "size_mb": round(sum((folder / name).stat().st_size for name in record.files) / 1e6, 2),
        "cpu_s": round(cpu_s, 1),
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; 0 if every export that was possible passed."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.export_parity",
        description=(__doc__ or "").split("\n\n")[0],
        epilog="example: python -m benchmarks.export_parity --targets onnx openvino",
    )
    parser.add_argument("--model", default="bundled")
    parser.add_argument("--targets", nargs="+", choices=list(TARGETS), default=list(TARGETS))
    parser.add_argument("--precisions", nargs="+", choices=PRECISIONS, default=list(PRECISIONS))
    parser.add_argument("--components", nargs="+", choices=COMPONENTS, default=list(COMPONENTS))
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--json", type=Path, help="write the result to a file")
    options = parser.parse_args(arguments)
    rows: list[dict[str, Any]] = []
    left_out: dict[str, str] = {}
    failed: list[str] = []
    for name in options.targets:
        target = load_target(name)
        if reason := target.unavailable():
            left_out[name] = reason
            continue
        for precision in options.precisions:
            for component in options.components:
                if refusal := target.refuses(component, precision):
                    left_out[f"{name}, {component}, {precision}"] = refusal
                    continue
                request = ExportRequest.of(
                    options.model, component, batches=tuple(options.batches), precision=precision
                )
                with tempfile.TemporaryDirectory() as scratch:
                    began = time.process_time()
                    try:
                        record = export_component(target, request, Path(scratch))
                    except LipwireError as error:
                        failed.append(f"{name}, {component}, {precision}: {error}")
                        continue
                    rows.append(row(record, Path(scratch), time.process_time() - began))
                sys.stderr.write(f"{json.dumps(rows[-1])}\n")
    given = list(sys.argv[1:] if arguments is None else arguments)
    result = {
        "command": " ".join(["python -m benchmarks.export_parity", *given]),
        "machine": {"cpu": cpu_name(), "note": "2 shared cores, no GPU, beside other load"},
        "versions": {"torch": torch.__version__, "python": platform.python_version()},
        "model": options.model,
        "batches": options.batches,
        "left_out": left_out,
        "failed": failed,
        "rows": rows,
    }
    text = json.dumps(result, indent=1) + "\n"
    if options.json:
        options.json.write_text(text, encoding="utf-8")
    else:
        sys.stdout.write(text)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
