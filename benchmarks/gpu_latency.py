"""Entry 6 of the GPU runs: hop lengths at growing session counts, with the scheduler in the loop.

    python -m benchmarks.gpu_latency --out out                  # on a GPU
    python -m benchmarks.gpu_latency --out out --size tiny --hops 4 --seconds 2     # on a CPU

Sessions over a prepared avatar, all speaking, their sound arriving in real time on a virtual clock
that the measured work drives (`benchmarks.virtual_load`): percentiles of hop time and of the delay
from due to done, hops that were late, and the largest number of sessions that keeps 25 fps.
"""

from __future__ import annotations

import argparse
import gc
import logging
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

import torch

from benchmarks.engine_cases import EXECUTIONS, MODES
from benchmarks.gpu_command import begin, common_parser
from benchmarks.measure import (
    DTYPES,
    Deadline,
    Figures,
    device_name,
    table,
)
from benchmarks.report import LinePlot, Report, Section, Series, Table, here, write_report
from benchmarks.synthetic import (
    CodecName,
    model_of,
    spec_of,
    synthetic_avatar,
    way_of,
)
from benchmarks.virtual_load import LoadFigures, run_load
from engine.backends.torch_backend import TorchBackend
from engine.denoise.model import TorchModel
from engine.spec import ModelSpec

logger = logging.getLogger(__name__)

BUCKETS = (1, 2, 4, 8, 16)
MOST_SESSIONS = 256
COLUMNS = (
    "hop",
    "sessions",
    "hop_ms_p50",
    "hop_ms_p95",
    "hop_ms_p99",
    "latency_ms_p50",
    "latency_ms_p95",
    "latency_ms_p99",
    "mean_batch",
    "late_hops",
    "behind",
    "network_share",
    "busy_share",
    "keeps_up",
)


def largest_session_count(
    run: Callable[[int], LoadFigures | None], most: int
) -> tuple[int, list[LoadFigures]]:
    """The largest number of sessions that keeps up, and all that was tried: doubling, then halving.

    Args:
        run: the figures of so many sessions; None: there was no time.
        most: sessions, beyond which it does not look.
    """
    tried: list[LoadFigures] = []
    good, bad, count = 0, most + 1, 1
    while bad - good > max(1, good // 8) and count <= most:
        figures = run(count)
        if figures is None:
            break
        tried.append(figures)
        if figures.keeps_up:
            good = count
        else:
            bad = count
        count = 2 * count if bad > most else (good + bad) // 2
    return good, tried


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures, writes gpu_latency.json and its page, prints tables; the exit status."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    options = _parser().parse_args(given)
    device, deadline = begin(options)
    precision = options.precision or ("bf16" if device.type == "cuda" else "f32")
    execution = options.execution or ("graphs" if device.type == "cuda" else "eager")
    codec: CodecName = options.codec or ("tiny" if options.size == "bundled" else "taesd")
    spec = spec_of(options.size, options.resolution, codec)
    model = model_of(options.size, spec, device, precision)
    about = here("python -m benchmarks.gpu_latency", given, f"{device_name(device)}, {precision}")
    figures = Figures(
        options.out,
        "gpu_latency",
        about,
        device,
        model=spec.name,
        resolution=spec.resolution,
        precision=precision,
        mode=options.mode,
        steps=options.steps,
        codec=spec.codec.kind,
        execution=execution,
        batches=list(BUCKETS),
        picture=options.picture,
    )
    rows: list[LoadFigures] = []
    largest: list[dict[str, object]] = []
    for hop in options.hops:
        way = way_of(spec, mode=options.mode, steps=options.steps, hop=hop)
        run = _runner(model, way, execution, options, deadline)
        count, tried = largest_session_count(run, options.sessions)
        rows += tried
        held = [item for item in tried if item.keeps_up]
        share = held[-1].network_share if held else None
        largest.append(
            {
                "hop": hop,
                "sessions_25fps": count,
                # What the network alone would feed, were pasting done elsewhere.
                "by_network_alone": round(held[-1].sessions / share, 1) if share else None,
            }
        )
        figures.put(load=[asdict(item) for item in rows], largest=largest, skipped=deadline.skipped)
        gc.collect()
        if device.type == "cuda":
            torch.cuda.empty_cache()
    write_report(options.out, "gpu_latency", figures.data, _page(figures.data, about))
    sys.stdout.write(table([{key: row[key] for key in COLUMNS} for row in figures.data["load"]]))
    sys.stdout.write("\n" + table(largest))
    sys.stdout.write("".join(f"no time for: {what}\n" for what in deadline.skipped))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = common_parser(
        "gpu_latency",
        "Hop lengths at growing session counts, with the scheduler in the loop.",
        "--out out --size tiny --hops 4",
        codec="picture codec (taesd; the bundled model's own)",
    )
    add = parser.add_argument
    add("--precision", choices=list(DTYPES), help="of the network (bf16; f32 on a CPU)")
    add("--mode", choices=MODES, default="carry", help="how earlier frames are seen (carry)")
    add("--steps", type=int, default=2, help="denoising steps (2)")
    add("--hops", nargs="+", type=int, default=[1, 2, 4, 8], help="new frames a call")
    add("--execution", choices=EXECUTIONS, help="(graphs; eager on a CPU)")
    add("--sessions", type=int, default=MOST_SESSIONS, help=f"at most ({MOST_SESSIONS})")
    add("--seconds", type=float, default=8.0, help="of the virtual clock, each count (8)")
    add("--picture", type=int, default=512, help="pixels of the avatar's side (512)")
    return parser


def _runner(
    model: TorchModel,
    way: ModelSpec,
    execution: str,
    options: argparse.Namespace,
    deadline: Deadline,
) -> Callable[[int], LoadFigures | None]:
    """What measures one number of sessions at one hop length."""
    hop = way.hop_frames
    cuda = model.device.type == "cuda"
    backend = TorchBackend(
        model,
        way,
        buckets=BUCKETS if cuda else None,
        graphs=execution.endswith("graphs"),
        compiled=execution.startswith("compiled"),
    )
    avatar = synthetic_avatar(backend, height=options.picture)

    def run(sessions: int) -> LoadFigures | None:
        if not deadline.allows(f"hop {hop}, {sessions} sessions", options.seconds):
            return None
        try:
            figures = run_load(backend, avatar, hop=hop, sessions=sessions, seconds=options.seconds)
        except torch.OutOfMemoryError:
            deadline.skipped.append(f"hop {hop}, {sessions} sessions: out of memory")
            return None
        logger.info("hop %d, %d sessions: keeps up %s", hop, sessions, figures.keeps_up)
        return figures

    return run


def _page(figures: dict[str, Any], about: Any) -> Report:
    loads: list[dict[str, Any]] = figures["load"]
    hops = list(dict.fromkeys(row["hop"] for row in loads))

    def lines(key: str) -> list[Series]:
        series = []
        for hop in hops:
            rows = sorted((r for r in loads if r["hop"] == hop), key=lambda r: r["sessions"])
            xs = [float(row["sessions"]) for row in rows]
            ys = [float("nan") if row[key] is None else row[key] for row in rows]
            series.append(Series(f"hop {hop}", xs, ys))
        return series

    largest = figures["largest"]
    return Report(
        "Latency by sessions",
        about,
        [
            Section(
                "Sessions that keep 25 fps",
                "",
                [Table(list(largest[0]), [list(row.values()) for row in largest])],
            ),
            Section(
                "From due to done",
                "From the arrival of the sound that made a hop due to its finished frames.",
                [
                    LinePlot("p95", "sessions", "ms", lines("latency_ms_p95"), log_x=True),
                    LinePlot("p95 of a call", "sessions", "ms", lines("hop_ms_p95"), log_x=True),
                    Table(COLUMNS, [[row[key] for key in COLUMNS] for row in loads]),
                ],
            ),
        ],
        f"{figures['model']} at {figures['resolution']} px in {figures['precision']}, "
        f"{figures['mode']}, {figures['steps']} steps, {figures['codec']} codec, "
        f"{figures['execution']}.",
    )


if __name__ == "__main__":
    sys.exit(main())
