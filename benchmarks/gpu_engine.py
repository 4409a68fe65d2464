"""Entry 1 of the GPU runs: the published size against upstream's way, in one run.

    python -m benchmarks.gpu_engine --out out          # on a GPU: under ten minutes
    python -m benchmarks.gpu_engine --out out --size tiny --batches 1 2 --upstream-steps 2

Synthetic weights at 256: frames a second, milliseconds a hop, peak memory, share of the measured
bf16 ceiling and sessions at 25 fps, for carry and pinned, 1, 2 and 4 steps, KL and TAESD-shaped
codec, eager, captured and compiled, batches 1 to 16. What is wanted most comes first; compilation,
whose time nobody knows beforehand, comes last.
"""

from __future__ import annotations

import argparse
import itertools
import logging
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from benchmarks.engine import summary
from benchmarks.engine_cases import Case
from benchmarks.engine_page import page
from benchmarks.engine_run import EngineRun, Plan
from benchmarks.measure import DTYPES, Deadline, pick_device
from benchmarks.report import write_report
from benchmarks.synthetic import SIZES, CodecName
from benchmarks.upstream import UPSTREAM_STEPS
from engine.spec import CarryMode

HOP = 4
STEPS = (1, 2, 4)
BATCHES = (1, 2, 4, 8, 16)
MODES: tuple[CarryMode, ...] = ("carry", "pinned")
CODECS: tuple[CodecName, ...] = ("taesd", "kl")
ROWS_CODEC: CodecName = "kl-rows"
TARGET_STEPS = 2
TARGET_SHARE = 0.5  # of the measured ceiling, in "carry"
TARGET_TIMES_UPSTREAM = 60.0
REFRESH_HOPS = (8, 16, 32)


def cases(batches: Sequence[int] = BATCHES, *, compiled: bool = True) -> Iterator[Case]:
    """The cases of the entry, the most wanted first."""
    middle = batches[len(batches) // 2]
    for codec in CODECS:
        for batch in batches:
            yield Case("carry", HOP, TARGET_STEPS, batch, codec, "graphs")
    for codec in CODECS:  # a refreshing hop, for the cost of refreshing now and then
        yield Case("carry", HOP, TARGET_STEPS, middle, codec, "graphs", refresh_hops=1)
    rest = itertools.product(MODES, STEPS, batches)
    for mode, steps, batch in rest:
        if (mode, steps) != ("carry", TARGET_STEPS):
            for codec in CODECS:
                yield Case(mode, HOP, steps, batch, codec, "graphs")
    for batch in batches:
        yield Case("carry", HOP, TARGET_STEPS, batch, ROWS_CODEC, "graphs")
    for mode, steps, codec in itertools.product(MODES, STEPS, CODECS):
        yield Case(mode, HOP, steps, middle, codec, "eager")
    for mode, codec, steps in itertools.product(MODES, CODECS, (2, 1, 4) if compiled else ()):
        yield Case(mode, HOP, steps, middle, codec, "compiled-graphs")


def stage_cases(batches: Sequence[int] = BATCHES) -> Iterator[Case]:
    """What is timed by stage."""
    for mode, codec in itertools.product(MODES, (*CODECS, ROWS_CODEC)):
        yield Case(mode, HOP, TARGET_STEPS, batches[len(batches) // 2], codec, "eager")


@dataclass(frozen=True, slots=True)
class Target:
    """A target of the engine beside what the run reached."""

    what: str
    wanted: float
    reached: float | None
    by: str


def targets(figures: dict[str, Any]) -> list[Target]:
    """The targets that this run says something about; nothing reached where it has no case."""
    rows = [
        row
        for row in figures.get("hops", ())
        if row["mode"] == "carry" and row["steps"] == TARGET_STEPS and not row["refresh_hops"]
    ]

    def best(what: str, wanted: float, key: str) -> Target:
        held = [row for row in rows if row.get(key) is not None]
        if not held:
            return Target(what, wanted, None, "")
        top = max(held, key=lambda row: float(row[key]))
        by = f"batch {top['batch']}, {top['codec']}, {top['execution']}"
        return Target(what, wanted, float(top[key]), by)

    return [
        best("share of the measured ceiling, carry, 2 steps", TARGET_SHARE, "ceiling_share"),
        best(
            "frames a second over upstream's, carry, 2 steps",
            TARGET_TIMES_UPSTREAM,
            "times_upstream",
        ),
    ]


def refresh_costs(figures: dict[str, Any]) -> list[dict[str, object]]:
    """The mean hop where every R-th is a refresh, from the two kinds of hop measured."""
    found = {}
    for row in figures.get("hops", ()):
        if (row["mode"], row["steps"], row["execution"]) == ("carry", TARGET_STEPS, "graphs"):
            found[row["codec"], row["batch"], row["refresh_hops"]] = row["hop_ms"]
    return [
        {
            "codec": codec,
            "batch": batch,
            "refresh_hops": every,
            "hop_ms": round(((every - 1) * found[codec, batch, 0] + refresh) / every, 3),
        }
        for (codec, batch, kind), refresh in found.items()
        if kind == 1 and (codec, batch, 0) in found
        for every in REFRESH_HOPS
    ]


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures, writes gpu_engine.json and its page, prints a table; the exit status."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.gpu_engine",
        description="The published size against upstream's way, in one run.",
        epilog="example: python -m benchmarks.gpu_engine --out out --size tiny --upstream-steps 2",
    )
    add = parser.add_argument
    add("--out", type=Path, required=True, help="folder of the JSON and the page")
    add("--size", choices=SIZES, default="published", help="tiny to test the command on a CPU")
    add("--resolution", type=int, help="pixels of the face crop (the size's own: 256)")
    add("--device", default="auto", help="cpu, cuda or auto (auto)")
    add("--precision", choices=list(DTYPES), help="of the network (bf16; f32 on a CPU)")
    add("--batches", nargs="+", type=int, default=list(BATCHES), help="sessions a call")
    add("--upstream-steps", type=int, default=UPSTREAM_STEPS, help=f"({UPSTREAM_STEPS})")
    add("--stream-minutes", type=float, default=10.0, help="of stream whose memory is watched")
    add("--compile", action=argparse.BooleanOptionalAction, help="torch.compile (on CUDA)")
    add("--rounds", type=int, default=10, help="timed hops a case (10)")
    add("--limit-s", type=float, default=3.0, help="seconds of timed hops a case, about (3)")
    add("--minutes", type=float, default=9.0, help="begin no case after so long (9)")
    add("--threads", type=int, default=1, help="torch's threads on a CPU (1)")
    options = parser.parse_args(given)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    deadline = Deadline(options.minutes)
    torch.set_num_threads(options.threads)
    device = pick_device(options.device)
    compiled = device.type == "cuda" if options.compile is None else options.compile
    plan = Plan(
        size=options.size,
        resolution=options.resolution,
        device=device,
        precision=options.precision or ("bf16" if device.type == "cuda" else "f32"),
        cases=list(cases(options.batches, compiled=compiled)),
        stages=list(stage_cases(options.batches)),
        upstream_steps=options.upstream_steps,
        stream_minutes=options.stream_minutes,
        rounds=options.rounds,
        limit_s=options.limit_s,
    )
    command = ["python -m benchmarks.gpu_engine", *given]
    run = EngineRun(plan, deadline, options.out, "gpu_engine", command)
    figures = run.run()
    figures["refresh"] = refresh_costs(figures)
    reached = targets(figures)
    figures["targets"] = [
        {"what": goal.what, "wanted": goal.wanted, "reached": goal.reached, "by": goal.by}
        for goal in reached
    ]
    write_report(options.out, "gpu_engine", figures, page(figures, run.about))
    sys.stdout.write(summary(figures))
    for goal in reached:
        have = "not measured" if goal.reached is None else f"{goal.reached} ({goal.by})"
        sys.stdout.write(f"{goal.what}: {have}, wanted {goal.wanted}\n")
    return 1 if figures["failed"] else 0


if __name__ == "__main__":
    sys.exit(main())
