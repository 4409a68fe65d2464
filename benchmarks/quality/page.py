"""The page of `lipwire bench quality`.

    python -m benchmarks.quality.page quality.json --html quality.html --picture plots.png

draws it again from a result that was kept, or the seams' and steps' plots as one picture.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from benchmarks.quality.expert_page import expert_section, with_floors
from benchmarks.report import (
    BarPlot,
    Block,
    Circumstances,
    LinePlot,
    Report,
    Section,
    Series,
    Table,
    render_html,
    save_plots,
)

TARGET: Final = 1.05  # boundary ratio in pinned, carry and causal
LINE_FRAMES: Final = 512  # of all takes, below which a spectrum's line is chance

SEAM_TEXT: Final = """
Mean change from frame to frame around the lips, at hop borders over inside hops. Speech is not
steady, so the plain ratio moves by chance; the truth's ratio at the same frames shows how much.
Where a clip went round twice, with borders on other frames each time, the excess compares the
same pictures with and without a border between them: 1 is seamless, the target is 1.05. The
interval holds 90 % of resampled stretches.

The hop line is the power of the change at 25 / h Hz over its neighbours': a pulse that the eye
sees as a beat. Short clips leave it an error of some dB; compare it with the truth's.
"""

SYNC_TEXT: Final = """
The mouth's opening is read off the generated pictures by a ridge that learnt this face from
rendered truth; its own error is in the row of the truth. Over the whole takes stand the model in
its own way and its floors: hearing another speech, and the source left as it is. Other rows are
over fewer frames. The opening's ratio is its spread over the truth's: a timid mouth correlates
and looks dead.
"""

DISTANCE_TEXT: Final = """
How far few steps lie from 20 in the same mode: latents of the generated part (root mean square
over the reference's own spread) and pictures around the lips. A model that was trained for few
steps has no better answer at 20: distance is then no fault.
"""

DRIFT_TEXT: Final = """
One stream of the first face, round and round. Change is by how many levels pictures differ from
those of the same input, at the same place of the hop, in the first rounds.
"""


def report_of(result: dict[str, Any], about: Circumstances) -> Report:
    """The page of what `command.measure` gives."""
    model, rows = result["model"], result["rows"]
    served = len(model["trained_timesteps"])
    usual = usual_rows(result)
    summary = (
        f"{model['name']} by {result['backend']}. The model was trained for {served} step"
        f"{'' if served == 1 else 's'} at timesteps {model['trained_timesteps']} and runs as "
        f"{model['own_way']} with a hop of {model['own_hop']}: other step counts and modes show "
        "what it makes of what it never saw."
    )
    sections = [
        Section("Seams", SEAM_TEXT, seam_blocks(rows, usual)),
        Section("Sync", SYNC_TEXT, [sync_table(rows, result["floors"]), *sync_plots(usual)]),
        *expert_section(rows, result["floors"], result.get("expert_accuracy")),
        Section("Steps", DISTANCE_TEXT, step_blocks(rows)),
    ]
    if result["drift"]:
        sections.append(Section("Drift", DRIFT_TEXT, drift_blocks(result["drift"])))
    notes = [
        f"{result['takes']} faces that training held out, a voice each that it held out too; "
        f"rounds of {result['frames_a_round']['usual']} frames, "
        f"{result['frames_a_round']['costly']} where a frame costs more than two network passes.",
        *(f"Refused: {r['way']}, hop {r['hop']}: {r['why']}" for r in result["refused"]),
    ]
    return Report("Quality", about, sections, summary, notes)


def usual_rows(result: dict[str, Any]) -> list[dict[str, Any]]:
    """The rows that differ in mode and hop alone."""
    served = len(result["model"]["trained_timesteps"])
    return [
        row
        for row in result["rows"]
        if row["steps"] == served
        and not row["published"]
        and row["start"] == "noise"
        and row["reference"] == "frame"
    ]


def seam_blocks(rows: Sequence[dict[str, Any]], usual: Sequence[dict[str, Any]]) -> list[Block]:
    """The table of all ways, and excess and hop line by hop at the served steps."""
    table = Table(
        ("way", "hop", "steps", "frames", "ratio", "truth's", "excess", "90 %",
         "hop line dB", "truth's dB", "change"),
        [_seam_row(row) for row in rows],
        "change: mean change over the truth's; below 1 is timid or smooth, above 1 flickers",
    )  # fmt: skip
    return [table, excess_plot(usual), line_plot(usual)]


def _seam_row(row: dict[str, Any]) -> list[Any]:
    seam = row["seam"] or {}
    known = seam if seam.get("paired") else {}  # unpaired, a short clip's says next to nothing
    interval = f"{known['low']:.3f} to {known['high']:.3f}" if known else None
    return [
        row["way"], row["hop"], row["steps"], row["frames"], seam.get("ratio"), seam.get("truth"),
        known.get("excess"), interval,
        row["hop_line_db"], row["hop_line_truth_db"], row["change_ratio"],
    ]  # fmt: skip


def _by_way(rows: Sequence[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    ways: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        ways.setdefault(row["way"], []).append(row)
    return {way: sorted(own, key=lambda row: int(row["hop"])) for way, own in ways.items()}


def excess_plot(usual: Sequence[dict[str, Any]]) -> BarPlot:
    """The seam's excess by hop and way."""
    hops = sorted({row["hop"] for row in usual if row["seam"]})
    values = {
        way: [next((r["seam"]["excess"] for r in own if r["hop"] == hop and r["seam"]), None)
              for hop in hops]
        for way, own in _by_way(usual).items()
    }  # fmt: skip
    return BarPlot(
        "Change at hop borders over the same change without one",
        "excess",
        [f"hop {hop}" for hop in hops],
        {way: own for way, own in values.items() if any(value is not None for value in own)},
        target=TARGET,
        base=1.0,
    )


def line_plot(usual: Sequence[dict[str, Any]]) -> LinePlot:
    """The hop line by hop and way, less the truth's."""
    series = []
    for way, own in _by_way(usual).items():
        known = [
            row for row in own if row["hop_line_db"] is not None and row["frames"] >= LINE_FRAMES
        ]
        if known:
            off = [row["hop_line_db"] - row["hop_line_truth_db"] for row in known]
            series.append(Series(way, [row["hop"] for row in known], off))
    return LinePlot(
        "The hop line, less the truth's", "hop, frames", "dB", series, 0.0, "the truth", log_x=True
    )


def sync_table(rows: Sequence[dict[str, Any]], floors: dict[str, Any]) -> Table:
    """Every way and the floors."""
    named = with_floors(rows, floors)
    return Table(
        ("way", "hop", "steps", "opening", "its ratio", "lag", "error", "by place, spread",
         "closed: recall", "precision", "mouth dB", "sharpness", "look"),
        [
            (way, hop, steps, row["sync"]["opening_correlation"], row["sync"]["opening_ratio"],
             row["sync"]["lag_frames"], row["sync"]["error"], row["sync"]["error_spread"],
             row["sync"]["closure_recall"], row["sync"]["closure_precision"],
             None if row["mouth_psnr_db"] > 99 else row["mouth_psnr_db"],
             row["sharpness_ratio"], row["look_error"])
            for way, hop, steps, row in named
        ],
    )  # fmt: skip


def sync_plots(usual: Sequence[dict[str, Any]]) -> list[LinePlot]:
    """The opening's error by place in the hop, of the two longest hops."""
    hops = sorted({row["hop"] for row in usual if row["hop"] > 1})[-2:]
    return [place_plot(usual, hop) for hop in hops]


def place_plot(usual: Sequence[dict[str, Any]], hop: int) -> LinePlot:
    """The opening's error by place in hops of one length."""
    series = [
        Series(row["way"], list(range(hop)), row["sync"]["error_by_place"])
        for row in usual
        if row["hop"] == hop
    ]
    return LinePlot(
        f"Opening's mean error by place in a hop of {hop}", "frame index mod hop", "error", series
    )


def step_blocks(rows: Sequence[dict[str, Any]]) -> list[Block]:
    """Distances and scores by step count."""
    held = [row for row in rows if row.get("to_many_steps") or row.get("to_upstream")]
    table = Table(
        ("way", "hop", "steps", "latents to 20", "mouth dB to 20", "latents to upstream",
         "mouth dB to upstream", "opening", "mouth dB to truth", "sharpness"),
        [
            (row["way"], row["hop"], row["steps"], *_distances(row.get("to_many_steps")),
             *_distances(row.get("to_upstream")), row["beginning"]["opening_correlation"],
             row["beginning"]["mouth_psnr_db"], row["beginning"]["sharpness_ratio"])
            for row in held
        ],
        f"the first {rows[0]['beginning']['frames']} frames of all takes, which every row has"
        if rows else "",
    )  # fmt: skip
    blocks: list[Block] = [table] if held else []
    return [*blocks, steps_plot(rows, "opening_correlation"), steps_plot(rows, "mouth_psnr_db")]


def _distances(found: dict[str, Any] | None) -> tuple[float | None, float | None]:
    found = found or {}
    return found.get("latents"), found.get("mouth_psnr_db")


def steps_plot(rows: Sequence[dict[str, Any]], figure: str) -> LinePlot:
    """A figure of the frames that all have, by step count; one line a way, at the hop where it
    has most step counts.
    """
    series = []
    for way, own in _by_way([row for row in rows if not row["published"]]).items():
        by_hop: dict[int, dict[int, float]] = {}
        for row in own:
            by_hop.setdefault(row["hop"], {})[row["steps"]] = row["beginning"][figure]
        hop, points = max(by_hop.items(), key=lambda item: len(item[1]))
        if len(points) > 1:
            steps = sorted(points)
            series.append(Series(f"{way}, hop {hop}", steps, [points[step] for step in steps]))
    words = {"opening_correlation": "opening's correlation", "mouth_psnr_db": "mouth PSNR, dB"}
    label = words.get(figure, figure)
    return LinePlot(f"{label} by steps", "steps", label, series, log_x=True)


def drift_blocks(drift: dict[str, Any]) -> list[Block]:
    """By minute, and the ends."""
    minutes = list(range(1, len(drift["sharpness"]) + 1))
    table = Table(
        ("minute", "sharpness over the truth's", "look error", "change", "memory MB"),
        list(
            zip(
                minutes, drift["sharpness"], drift["look_error"], drift["change"],
                drift["memory_mb"], strict=True,
            )
        ),
        f"{drift['backend']}, {drift['way']}, hop {drift['hop']}, steps {drift['steps']}: "
        "sharpness "
        f"{drift['sharpness_drift']:+.2%}, look {drift['look_drift']:+.4f} levels, "
        f"memory {drift['memory_growth']:+.2%} from the second minute on",
    )  # fmt: skip
    known = [(m, v) for m, v in zip(minutes, drift["sharpness"], strict=True) if v is not None]
    line = Series("sharpness", [m for m, _ in known], [v for _, v in known])
    return [table, LinePlot("Sharpness by minute", "minute", "over the truth's", [line])]


def main(arguments: Sequence[str] | None = None) -> int:
    """Draws a kept result; the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.quality.page",
        description="Draw the page or a picture of a result of lipwire bench quality.",
        epilog="example: python -m benchmarks.quality.page quality.json --picture plots.png",
    )
    parser.add_argument("result", type=Path, help="quality.json")
    parser.add_argument("--html", type=Path, help="where to write the page")
    parser.add_argument("--picture", type=Path, help="where to write the plots as PNG")
    options = parser.parse_args(arguments)
    result = json.loads(options.result.read_text(encoding="utf-8"))
    if options.html is not None:
        report = report_of(result, Circumstances(**result["circumstances"]))
        options.html.write_text(render_html(report), encoding="utf-8")
    if options.picture is not None:
        usual = usual_rows(result)
        steps = [
            steps_plot(result["rows"], name) for name in ("opening_correlation", "mouth_psnr_db")
        ]
        save_plots(options.picture, [excess_plot(usual), line_plot(usual), *steps])
    return 0


if __name__ == "__main__":
    sys.exit(main())
