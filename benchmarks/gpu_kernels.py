"""Entry 5 of the GPU runs: where a hop's time goes, and what would make it shorter.

    python -m benchmarks.gpu_kernels --out out                   # on a GPU
    TRITON_INTERPRET=1 python -m benchmarks.gpu_kernels --out out --size tiny    # on a CPU

Profiles an eager hop by kind of operation. Then, for the shapes that move or compute most: fused
GroupNorm + SiLU with moments (Triton), attention over 16 frames that reads keys and values from
the ring in place (Triton), linear layers in 8 bits, the decoder channels last, and torch.compile
of the same; each held against a result of higher precision and timed beside what it would
replace. A candidate that errs too much fails the run. The kernels stay here, and out of the
engine, until a GPU has shown that they pay.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import torch

from benchmarks.engine_cases import Case, fill_hops, open_case
from benchmarks.gpu_command import begin, common_parser
from benchmarks.hop_profile import by_kind, profile_hop
from benchmarks.kernels.candidates import Studies, Study, triton_state
from benchmarks.kernels.workloads import workloads_of
from benchmarks.measure import (
    DTYPES,
    Ceilings,
    Figures,
    device_name,
    measure_ceilings,
    table,
    time_calls,
)
from benchmarks.precisions import Distance
from benchmarks.report import BarPlot, Report, Section, Table, here, write_report
from benchmarks.synthetic import hop_inputs, model_of, spec_of
from engine.denoise.model import TorchModel
from engine.spec import ModelSpec

logger = logging.getLogger(__name__)

SHOWN_OPERATORS = 25


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures, writes gpu_kernels.json and its page, prints tables; the exit status."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    options = _parser().parse_args(given)
    device, deadline = begin(options)
    precision = options.precision or ("bf16" if device.type == "cuda" else "f32")
    spec = spec_of(options.size, options.resolution, options.codec)
    model = model_of(options.size, spec, device, precision)
    about = here("python -m benchmarks.gpu_kernels", given, f"{device_name(device)}, {precision}")
    figures = Figures(
        options.out,
        "gpu_kernels",
        about,
        device,
        model=spec.name,
        resolution=spec.resolution,
        precision=precision,
        batch=options.batch,
        hop=options.hop,
        triton=triton_state(device),
    )
    ceilings = measure_ceilings(device)
    figures.put(ceilings=asdict(ceilings))
    figures.put(profile=_profile(model, spec, options))
    rows: list[dict[str, object]] = []
    compiled = device.type == "cuda" if options.compile is None else options.compile
    studies = Studies(
        model,
        spec,
        sessions=options.batch,
        hop=options.hop,
        shapes=options.shapes,
        compiled=compiled,
    )
    for study in studies.all(workloads_of(spec)):
        if deadline.allows(f"{study.what} {study.shape}"):
            rows += _measure(study, ceilings, precision, options, device)
            figures.put(candidates=rows, totals=_totals(rows), skipped=deadline.skipped)
        torch._dynamo.reset()  # every shape is compiled anew: no limit on their number
    write_report(options.out, "gpu_kernels", figures.data, _page(figures.data, about))
    sys.stdout.write(_summary(figures.data))
    return 0 if all(row["right"] for row in rows) else 1


def _parser() -> argparse.ArgumentParser:
    parser = common_parser(
        "gpu_kernels",
        "Where a hop's time goes, and what would make it shorter.",
        "--out out --size tiny --shapes 1",
        codec="whose decoder is studied (the size's own)",
    )
    add = parser.add_argument
    add("--precision", choices=list(DTYPES), help="of the network (bf16; f32 on a CPU)")
    add("--batch", type=int, default=4, help="sessions a call (4)")
    add("--hop", type=int, default=4, help="new frames a call (4)")
    add("--shapes", type=int, default=6, help="of each kind of layer, the largest so many (6)")
    add("--compile", action=argparse.BooleanOptionalAction, help="torch.compile (on CUDA)")
    add("--rounds", type=int, default=30, help="timed calls (30)")
    add("--limit-s", type=float, default=2.0, help="seconds of timed calls, about (2)")
    return parser


def _profile(model: TorchModel, spec: ModelSpec, options: argparse.Namespace) -> dict[str, object]:
    case = Case("carry", options.hop, 2, options.batch, "tiny", "eager")
    backend = open_case(model, spec, case)
    inputs = hop_inputs(backend, options.hop, options.batch)
    for _ in range(fill_hops(backend.spec)):
        backend.run_hop(inputs)
    operators = profile_hop(lambda: backend.run_hop(inputs), model.device)
    return {
        "what": f"carry, 2 steps, hop {options.hop}, batch {options.batch}, "
        f"{spec.codec.kind} codec, eager",
        "by_kind": by_kind(operators),
        "operators": [asdict(item) for item in operators[:SHOWN_OPERATORS]],
    }


@torch.inference_mode()
def _measure(
    study: Study,
    ceilings: Ceilings,
    precision: str,
    options: argparse.Namespace,
    device: torch.device,
) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = []
    base = None
    interpreted = triton_state(device) == "interpreted"
    for name, runs in study.runs.items():
        distance = Distance.of(runs[0](), study.truth)
        right = distance.relative is not None and distance.relative <= study.tolerance[name]
        row: dict[str, object] = {
            "what": study.what,
            "shape": study.shape,
            "count": study.count,
            "candidate": name,
            "relative_error": distance.relative,
            "right": right,
        }
        if not (interpreted and name.startswith("triton")):  # an interpreter's time says nothing
            timing = time_calls(runs, device, rounds=options.rounds, limit_s=options.limit_s)
            base = timing.median_ms if base is None else base
            row |= {
                "ms": round(timing.median_ms, 5),
                "low_ms": round(timing.low_ms, 5),
                "high_ms": round(timing.high_ms, 5),
                "times_faster": round(base / timing.median_ms, 3),
                "ceiling_share": _share(study, ceilings, timing.median_ms, precision, name),
            }
        rows.append(row)
        logger.info("%s %s: %s", study.what, study.shape, name)
    return rows


def _share(study: Study, ceilings: Ceilings, ms: float, precision: str, name: str) -> float | None:
    """The part of the ceiling that limits the study: of bandwidth or of products."""
    if study.bytes_moved is not None:
        return round(study.bytes_moved / ms / 1e6 / ceilings.gb_s, 4)
    rate = "fp8" if name.startswith("fp8") and "fp8" in ceilings.tflops else precision
    return round(ceilings.share(study.flops, ms, rate), 4) if study.flops else None


def _totals(rows: Sequence[dict[str, Any]]) -> list[dict[str, object]]:
    """Milliseconds of one pass (or decoding) by layer and candidate, over the shapes studied."""
    sums: dict[tuple[str, str], float] = {}
    for row in rows:
        if "ms" in row:
            key = (row["what"], row["candidate"])
            sums[key] = sums.get(key, 0.0) + row["count"] * row["ms"]
    return [
        {"what": what, "candidate": name, "ms_a_pass": round(ms, 4)}
        for (what, name), ms in sums.items()
    ]


def _summary(figures: dict[str, Any]) -> str:
    profile = figures["profile"]
    whole = sum(profile["by_kind"].values())
    kinds = [
        {"kind": kind, "ms a hop": ms, "share": round(ms / whole, 3)}
        for kind, ms in profile["by_kind"].items()
    ]
    head = ("what", "shape", "count", "candidate", "ms", "times_faster", "ceiling_share")
    rows = [
        {**{key: row.get(key) for key in head}, "error": row["relative_error"]}
        for row in figures["candidates"]
    ]
    wrong = [row for row in figures["candidates"] if not row["right"]]
    return "\n".join(
        (
            f"a hop, {profile['what']}:",
            table(kinds),
            table(rows),
            "all studied shapes of one pass together:",
            table(figures["totals"]),
            f"Triton's kernels: {figures['triton']}",
            *(f"WRONG: {row['what']} {row['shape']} {row['candidate']}" for row in wrong),
            *(f"no time for: {what}" for what in figures["skipped"]),
            "",
        )
    )


def _page(figures: dict[str, Any], about: Any) -> Report:
    def block(rows: Sequence[dict[str, Any]]) -> Table:
        head: dict[str, None] = {key: None for row in rows for key in row}
        return Table(list(head), [[row.get(key) for key in head] for row in rows])

    kinds = figures["profile"]["by_kind"]
    bars = BarPlot("A hop by kind of operation", "ms", list(kinds), {"ms": list(kinds.values())})
    return Report(
        "Kernels",
        about,
        [
            Section("Where the time goes", figures["profile"]["what"], [bars]),
            Section("Operators", "", [block(figures["profile"]["operators"])]),
            Section("One pass", "", [block(figures["totals"])]),
            Section(
                "Candidates",
                "The share of the ceiling is of bandwidth where a layer only moves bytes.",
                [block(figures["candidates"])],
            ),
        ],
        f"{figures['model']} at {figures['resolution']} px in {figures['precision']}, batch "
        f"{figures['batch']}, hop {figures['hop']}. Triton's kernels: {figures['triton']}.",
    )


if __name__ == "__main__":
    sys.exit(main())
