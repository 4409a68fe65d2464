"""The tables and the page of an engine run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from benchmarks.report import (
    BarPlot,
    Block,
    Circumstances,
    LinePlot,
    Report,
    Section,
    Series,
    Table,
)

COLUMNS = (
    "mode",
    "hop",
    "steps",
    "batch",
    "codec",
    "execution",
    "hop_ms",
    "frame_ms",
    "frames_s",
    "sessions_25fps",
    "ceiling_share",
    "peak_mb",
    "times_upstream",
)
STAGES = ("audio", "unet", "decode", "rest")


def short_rows(figures: Mapping[str, Any]) -> list[dict[str, object]]:
    """The hops in few columns, upstream first."""
    rows: list[dict[str, object]] = []
    upstream = figures.get("upstream")
    if upstream is not None:
        rows.append(
            {**dict.fromkeys(COLUMNS), **upstream, "mode": "upstream", "times_upstream": 1.0}
        )
    rows += [{**row, "mode": _mode(row)} for row in figures.get("hops", ())]
    return [{key: row.get(key) for key in COLUMNS} for row in rows]


def page(figures: Mapping[str, Any], about: Circumstances) -> Report:
    """The run as a page."""
    ceilings = figures["ceilings"]
    reached = ", ".join(f"{name} {value} TFLOP/s" for name, value in ceilings["tflops"].items())
    sections = [
        Section(
            "Hops",
            "Wall clock from numpy to numpy for the whole batch, faces prepared, contexts full.",
            [_table(short_rows(figures)), *_by_batch(figures.get("hops", ()))],
        )
    ]
    if figures.get("stages"):
        text = "Run eagerly; encode_twice is what a live picture costs beside the hop."
        stages = figures["stages"]
        sections.append(Section("Stages", text, [_table(stages), _stage_bars(stages)]))
    if figures.get("decoders"):
        text = "Of one session, eager; the rows are those that the paste mask shows."
        sections.append(Section("Decoders", text, [_table(figures["decoders"])]))
    if figures.get("backends"):
        rows = [
            {**{k: v for k, v in row.items() if k != "stages_ms"}, **row["stages_ms"]}
            for row in figures["backends"]
        ]
        text = "Backends take turns on one CPU thread each; relative is CPU time over the first's."
        sections.append(Section("Backends", text, [_table(rows)]))
    if figures.get("stream"):
        streams = figures["stream"]
        pairs = [(item, memory) for item in streams for memory in item["memories"]]
        lines = [
            Series(f"{item['backend']}, {memory['memory']}", *zip(*memory["readings"], strict=True))
            for item, memory in pairs
        ]
        rows = [
            {
                **{key: value for key, value in item.items() if key != "memories"},
                **{key: value for key, value in memory.items() if key != "readings"},
            }
            for item, memory in pairs
        ]
        plot = LinePlot("Memory over the stream", "minute", "MB", lines, markers=False)
        sections.append(Section("Memory over a stream", "", [_table(rows), plot]))
    return Report(
        "Engine",
        about,
        sections,
        f"{figures['model']} at {figures['resolution']} px in {figures['precision']}. Ceilings "
        f"measured in this run: {reached} (a product of {ceilings['matrix']} rows), "
        f"{ceilings['gb_s']} GB/s (a copy, read and written).",
        [f"no time for: {what}" for what in figures.get("skipped", ())]
        + [f"failed: {what}" for what in figures["failed"]],
    )


def _mode(row: Mapping[str, Any]) -> str:
    return f"{row['mode']}/{row['refresh_hops']}" if row["refresh_hops"] else str(row["mode"])


def _table(rows: Sequence[Mapping[str, Any]]) -> Table:
    if not rows:
        return Table((), ())
    head = list(rows[0])
    return Table(head, [[row.get(key) for key in head] for row in rows])


def _by_batch(rows: Iterable[Mapping[str, Any]]) -> list[Block]:
    """Sessions at 25 fps over the batch, a line for each way with several batches."""
    lines: dict[str, list[tuple[float, float]]] = {}
    for row in rows:
        label = (
            f"{_mode(row)}, hop {row['hop']}, {row['steps']} steps, {row['codec']}, "
            f"{row['execution']}"
        )
        lines.setdefault(label, []).append((row["batch"], row["sessions_25fps"]))
    series = [
        Series(label, *zip(*sorted(points), strict=True))
        for label, points in lines.items()
        if len(points) > 1
    ]
    if not series:
        return []
    title = "Sessions at 25 frames a second"
    return [LinePlot(title, "batch", "sessions", series[:8], log_x=True)]


def _stage_bars(rows: Sequence[Mapping[str, Any]]) -> BarPlot:
    groups = [
        f"{row['mode']} h{row['hop']} s{row['steps']} b{row['batch']} {row['codec']}"
        for row in rows[:12]
    ]
    values = {stage: [float(row[stage]) for row in rows[:12]] for stage in STAGES}
    return BarPlot("Milliseconds of a hop by stage", "ms", groups, values, stacked=True)
