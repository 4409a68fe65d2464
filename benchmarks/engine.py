"""What a hop costs: stages, modes, steps, codecs, batches, executions, beside upstream's way.

    lipwire bench engine                                    # the bundled model, all CPU backends
    lipwire bench engine --size published --against upstream --out report
    lipwire bench engine --size tiny --modes carry pinned --steps 1 2 --batches 1 2

Writes engine.json and engine.html. Whatever a figure is a share of was measured in the same run.
"""

from __future__ import annotations

import argparse
import itertools
import logging
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from benchmarks.engine_cases import EXECUTIONS, MODES, Case, Stopwatch
from benchmarks.engine_page import page, short_rows
from benchmarks.engine_run import EngineRun, Plan
from benchmarks.hop_flops import FlopCounter
from benchmarks.measure import DTYPES, Deadline, memory_readers, pick_device, table
from benchmarks.report import write_report
from benchmarks.stream_memory import stream_memory
from benchmarks.synthetic import CODECS, SIZES, spec_of
from benchmarks.upstream import UPSTREAM_STEPS
from engine.checkpoints import resolve_model

EXAMPLES = """examples:
  lipwire bench engine
  lipwire bench engine --size published --against upstream --out report
  lipwire bench engine --size tiny --modes carry pinned --steps 1 2 --batches 1 2
"""
# Of the bundled model's graphs on one CPU thread; the first is what the others are held against.
BACKENDS = ("openvino-bf16", "openvino-f32", "onnxruntime-f32", "torch-f32", "torch-bf16")
# What a size is measured with unless told otherwise: modes, hops, steps, batches, codecs.
DEFAULTS: dict[str, dict[str, tuple[Any, ...]]] = {
    "bundled": {
        "modes": ("causal",),
        "hops": (1, 2, 4, 8),
        "steps": (1, 2),
        "batches": (1,),
        "codecs": ("tiny",),
    },
    "tiny": {
        "modes": ("carry", "pinned"),
        "hops": (4,),
        "steps": (1, 2),
        "batches": (1, 2),
        "codecs": ("taesd",),
    },
    "published": {
        "modes": ("carry", "pinned"),
        "hops": (4,),
        "steps": (1, 2, 4),
        "batches": (1, 2, 4, 8, 16),
        "codecs": ("kl", "taesd"),
    },
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures, writes the JSON and the page, prints a table; the exit status."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    options = _parser().parse_args(given)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    torch.set_num_threads(options.threads)
    device = pick_device(options.device)
    backends = _backends(options, device)
    cases = list(_cases(options, device))
    plan = Plan(
        size=options.size,
        resolution=options.resolution,
        device=device,
        precision=options.precision or ("bf16" if device.type == "cuda" else "f32"),
        cases=cases,
        stages=[] if options.no_stages else list(dict.fromkeys(case.eager() for case in cases)),
        upstream_steps=options.upstream_steps if options.against else None,
        stream_minutes=options.stream_minutes,
        rounds=options.rounds,
        limit_s=options.limit_s,
    )
    command = ["lipwire bench engine", *given]
    run = EngineRun(plan, Deadline(options.minutes), options.out, "engine", command)
    figures = run.run()
    figures["gflop_frame"] = _gflop(plan)
    if backends:
        _compare_backends(options, backends, figures)
    written = write_report(options.out, "engine", figures, page(figures, run.about))
    sys.stdout.write(summary(figures))
    sys.stdout.write("".join(f"{path}\n" for path in written))
    return 1 if figures["failed"] else 0


def summary(figures: dict[str, Any]) -> str:
    """The short table that a run ends with."""
    lines = [table(short_rows(figures))]
    if figures.get("decoders"):
        lines.append(table(figures["decoders"]))
    if figures.get("backends"):
        head = ("backend", "hop", "batch", "hop_ms", "hop_cpu_ms", "frame_ms", "relative")
        lines.append(table([{key: row[key] for key in head} for row in figures["backends"]]))
    for item in figures.get("stream", ()):
        lines += [
            f"{memory['memory']} memory over {item['minutes']} minutes of stream, "
            f"{item['backend']}: {memory['start_mb']} to {memory['end_mb']} MB, "
            f"growth {memory['growth_percent']} %\n"
            for memory in item["memories"]
        ]
    lines += [f"FAILED {what}\n" for what in figures["failed"]]
    if figures.get("skipped"):
        lines.append(f"no time for {len(figures['skipped'])} cases, which the JSON names\n")
    ceilings = figures["ceilings"]
    lines.append(f"ceilings of this run: {ceilings['tflops']} TFLOP/s, {ceilings['gb_s']} GB/s\n")
    return "".join(lines)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="lipwire bench engine",
        description="What a hop costs: time by stage, operations, memory, sessions.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--size", choices=SIZES, default="bundled", help="which model (bundled)")
    add("--resolution", type=int, help="pixels of the face crop (the size's own)")
    add("--device", default="auto", help="cpu, cuda or auto (auto)")
    add("--precision", choices=list(DTYPES), help="of the network (f32; bf16 on CUDA)")
    add("--modes", nargs="+", choices=MODES, help="ways to see earlier frames")
    add("--hops", nargs="+", type=int, help="new frames a call")
    add("--steps", nargs="+", type=int, help="denoising steps")
    add("--batches", nargs="+", type=int, help="sessions a call")
    add("--codecs", nargs="+", choices=CODECS, help="picture codecs, with synthetic weights")
    add("--executions", nargs="+", choices=EXECUTIONS, help="(eager; also graphs on CUDA)")
    add("--against", choices=["upstream"], help="run the published way in the same run")
    add("--upstream-steps", type=int, default=UPSTREAM_STEPS, help=f"({UPSTREAM_STEPS})")
    add(
        "--backends",
        nargs="+",
        choices=[*BACKENDS, "none"],
        help="of the bundled model, to compare on a CPU (all)",
    )
    add("--stream-minutes", type=float, default=0.0, help="watch memory over so much stream (0)")
    add("--no-stages", action="store_true", help="leave out the times by stage")
    add("--rounds", type=int, default=15, help="timed hops a case (15)")
    add("--limit-s", type=float, default=10.0, help="seconds of timed hops a case, about (10)")
    add("--minutes", type=float, default=60.0, help="begin no case after so long (60)")
    add("--threads", type=int, default=1, help="torch's threads on a CPU (1)")
    add("--out", type=Path, default=Path("report"), help="folder of the report (report)")
    return parser


def _cases(options: argparse.Namespace, device: torch.device) -> list[Case]:
    defaults = DEFAULTS[options.size]
    executions = options.executions or (
        ("eager", "graphs") if device.type == "cuda" else ("eager",)
    )
    return [
        Case(mode, hop, steps, batch, codec, execution)
        for execution, codec, mode, hop, steps, batch in itertools.product(
            executions,
            options.codecs or defaults["codecs"],
            options.modes or defaults["modes"],
            options.hops or defaults["hops"],
            options.steps or defaults["steps"],
            options.batches or defaults["batches"],
        )
    ]


def _gflop(plan: Plan) -> list[dict[str, object]]:
    """Counted GFLOP a frame by stage, for every mode, hop, number of steps and codec."""
    rows: dict[tuple[object, ...], dict[str, object]] = {}
    counters: dict[str, FlopCounter] = {}
    for case in plan.cases:
        spec = spec_of(plan.size, plan.resolution, case.codec)
        if case.codec not in counters:
            counters[case.codec] = FlopCounter(spec)
        counted = counters[case.codec].hop(case.way(spec), case.hop)
        frame = {key: round(value / case.hop / 1e9, 4) for key, value in asdict(counted).items()}
        about = {"mode": case.mode, "hop": case.hop, "steps": case.steps, "codec": case.codec}
        rows[tuple(about.values())] = {**about, **frame}
    return list(rows.values())


def _backends(options: argparse.Namespace, device: torch.device) -> list[str]:
    """The backends to compare, which only the bundled model has, on a CPU."""
    if options.backends is None:
        compared = options.size == "bundled" and device.type == "cpu"
        return list(BACKENDS) if compared else []
    names = [name for name in options.backends if name != "none"]
    if names and options.size != "bundled":
        _parser().error("expected --size bundled with --backends: no other model has graphs")
    return names


def _compare_backends(
    options: argparse.Namespace, names: Sequence[str], figures: dict[str, Any]
) -> None:
    """Adds the comparison of CPU backends, which needs OpenVINO and onnxruntime."""
    from benchmarks.engine_backends import compare, open_backends

    device = torch.device("cpu")
    defaults = DEFAULTS["bundled"]
    watch = Stopwatch(device)
    with open_backends(resolve_model("bundled"), names, watch) as backends:
        figures["backends"] = [
            asdict(row)
            for hop in options.hops or defaults["hops"]
            for batch in options.batches or defaults["batches"]
            for row in compare(backends, watch, hop, batch, options.rounds)
        ]
        if options.stream_minutes:
            first = next(iter(backends.values()))
            memory = stream_memory(first, options.stream_minutes, 1, memory_readers(device))
            figures["stream"] = [*figures.get("stream", ()), asdict(memory)]


if __name__ == "__main__":
    sys.exit(main())
