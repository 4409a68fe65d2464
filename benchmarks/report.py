"""A benchmark's result as one HTML page with plots, beside its JSON.

    report = Report("Engine", here("lipwire bench engine", arguments, device), [
        Section("Hops", "What a hop costs.", [
            Table(("mode", "ms"), [("carry", 4.1), ("pinned", 9.7)]),
            LinePlot("Cost by batch", "batch", "ms a hop", [Series("carry", (1, 2, 4), ms)]),
            BarPlot("By stage", "ms", ("audio", "U-Net"), {"carry": (1.0, 3.1)}),
        ]),
    ])
    for path in write_report(folder, "engine", result, report): ...

The page loads nothing: plots are SVG inside it, and text and lines take the
page's colours, so that it reads on light and dark alike. matplotlib draws the
plots (the extra `bench`); without it the JSON is written and a sentence says so.
"""

from __future__ import annotations

import html
import importlib.metadata
import importlib.util
import io
import json
import math
import os
import platform
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Cell = str | float | int | None

NEEDS_MATPLOTLIB: Final = (
    'no HTML report: it needs matplotlib, pip install -e ".[bench]"; the JSON is complete'
)
PACKAGES: Final = ("numpy", "torch", "diffusers", "openvino", "onnxruntime")
# Mid tones that stand out on white and on near-black, in an order that keeps neighbours apart.
COLOURS: Final = (
    "#3b82c4", "#e07b39", "#3f9b5f", "#b65fa8", "#c9a227", "#5fb0b7", "#d0505a", "#8a7f72",
)  # fmt: skip
# Stand-ins that matplotlib writes into the SVG and the page's own colours replace.
_INK, _FAINT = "#010203", "#030201"


@dataclass(frozen=True, slots=True)
class Circumstances:
    """Under what a result came about.

    Attributes:
        command: what repeats it.
        device: machine, GPU or CPU, threads, precision.
        versions: package -> version.
        date: ISO 8601, UTC.
    """

    command: str
    device: str
    versions: dict[str, str]
    date: str

    def to_dict(self) -> dict[str, Any]:
        """For the result's JSON."""
        return {
            "command": self.command,
            "device": self.device,
            "versions": self.versions,
            "date": self.date,
        }


@dataclass(frozen=True, slots=True)
class Table:
    """Rows under named columns. A number is shown with four significant digits, None as a dash."""

    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    caption: str = ""


@dataclass(frozen=True, slots=True)
class Series:
    """One line of a plot; a NaN is a gap."""

    label: str
    x: Sequence[float]
    y: Sequence[float]


@dataclass(frozen=True, slots=True)
class LinePlot:
    """Lines over a common axis.

    Attributes:
        target: a dashed level to be held against, with `target_label`.
        log_x, log_y: logarithmic axes (base 2 for x, 10 for y).
        marked: x values that get a faint vertical line each.
    """

    title: str
    x_label: str
    y_label: str
    series: Sequence[Series]
    target: float | None = None
    target_label: str = "target"
    log_x: bool = False
    log_y: bool = False
    markers: bool = True
    marked: Sequence[float] = ()


@dataclass(frozen=True, slots=True)
class BarPlot:
    """Bars in groups.

    Attributes:
        groups: labels along the axis.
        values: label of a colour -> one value a group; None leaves a gap.
        stacked: on top of each other instead of side by side.
        base: where bars begin, e.g. 1 for a ratio.
    """

    title: str
    y_label: str
    groups: Sequence[str]
    values: Mapping[str, Sequence[float | None]]
    target: float | None = None
    target_label: str = "target"
    stacked: bool = False
    log_y: bool = False
    base: float = 0.0


Block = Table | LinePlot | BarPlot


@dataclass(frozen=True, slots=True)
class Section:
    """A heading, paragraphs (blank lines part them) and what stands below them."""

    title: str
    text: str = ""
    blocks: Sequence[Block] = ()


@dataclass(frozen=True, slots=True)
class Report:
    """One page."""

    title: str
    circumstances: Circumstances
    sections: Sequence[Section]
    summary: str = ""
    notes: Sequence[str] = field(default_factory=tuple)


def here(command: str, arguments: Sequence[str], device: str = "") -> Circumstances:
    """The circumstances of a run on this machine, now.

    Args:
        command: such as "lipwire bench quality".
        arguments: what it was given.
        device: the accelerator and precision, where the CPU is not what was measured.
    """
    machine = f"{cpu_name()}, {os.cpu_count()} cores"
    versions = {"python": platform.python_version()}
    for package in PACKAGES:
        if importlib.util.find_spec(package) is not None:
            versions[package] = importlib.metadata.version(package)
    return Circumstances(
        " ".join((command, *arguments)),
        f"{device}; {machine}" if device else machine,
        versions,
        datetime.now(UTC).isoformat(timespec="seconds"),
    )


def cpu_name() -> str:
    """The processor's name as the kernel gives it."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    named = (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.processor() or platform.machine())


def write_report(
    folder: Path, name: str, result: Mapping[str, Any], report: Report
) -> tuple[Path, ...]:
    """`NAME.json` and, with matplotlib at hand, `NAME.html` in `folder`, which is made.

    A sentence on stderr says what is missing for the page.

    Raises:
        OSError: the folder cannot be written.
        ValueError: a NaN or an infinity in `result`, which JSON does not have.
    """
    folder.mkdir(parents=True, exist_ok=True)
    written = folder / f"{name}.json"
    text = json.dumps(result, indent=1, allow_nan=False)
    written.write_text(text + "\n", encoding="utf-8")
    if importlib.util.find_spec("matplotlib") is None:
        sys.stderr.write(NEEDS_MATPLOTLIB + "\n")
        return (written,)
    page = folder / f"{name}.html"
    page.write_text(render_html(report), encoding="utf-8")
    return (written, page)


def render_html(report: Report) -> str:
    """The whole page; needs matplotlib where it has plots."""
    plots = 0
    parts: list[str] = []
    for section in report.sections:
        parts.append(f"<section><h2>{html.escape(section.title)}</h2>")
        parts += _paragraphs(section.text)
        for block in section.blocks:
            if isinstance(block, Table):
                parts.append(_table(block))
                continue
            plots += 1
            title = html.escape(block.title)
            parts.append(f"<figure>{_svg(block, f'p{plots}')}<figcaption>{title}</figcaption>")
            parts.append("</figure>")
        parts.append("</section>")
    about = report.circumstances
    versions = ", ".join(f"{name} {version}" for name, version in about.versions.items())
    facts = (
        ("command", f"<code>{html.escape(about.command)}</code>"),
        ("device", html.escape(about.device)),
        ("versions", html.escape(versions)),
        ("date", html.escape(about.date)),
    )
    notes = "".join(f"<li>{html.escape(note)}</li>" for note in report.notes)
    return "\n".join(
        (
            '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>{html.escape(report.title)}</title><style>{_STYLE}</style></head><body><main>",
            f"<h1>{html.escape(report.title)}</h1>",
            *_paragraphs(report.summary),
            "<dl>" + "".join(f"<dt>{key}</dt><dd>{value}</dd>" for key, value in facts) + "</dl>",
            f"<ul>{notes}</ul>" if notes else "",
            *parts,
            "</main></body></html>\n",
        )
    )


def save_plots(path: Path, plots: Sequence[LinePlot | BarPlot], columns: int = 2) -> None:
    """The plots on a white ground in one PNG, for a document."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    rows = math.ceil(len(plots) / columns)
    with rc_context(_settings("#222222", "#d8d8d8")):
        figure = Figure(figsize=(6.2 * columns, 3.6 * rows), layout="constrained")
        grid = figure.subplots(rows, columns, squeeze=False)
        for axes, plot in zip(grid.flat, plots, strict=False):
            _draw(axes, plot, "#222222")
            axes.set_title(plot.title, fontsize=11)
        for axes in grid.flat[len(plots) :]:
            axes.axis("off")
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, dpi=80, facecolor="white", metadata={"Software": ""})


def show(value: Cell) -> str:
    """A table's cell as text."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "–"  # noqa: RUF001
    if isinstance(value, float):
        return f"{value:.4g}" if abs(value) < 1e4 else f"{value:,.0f}"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


def _paragraphs(text: str) -> list[str]:
    return [f"<p>{html.escape(part.strip())}</p>" for part in text.split("\n\n") if part.strip()]


def _table(table: Table) -> str:
    head = "".join(f"<th>{html.escape(column)}</th>" for column in table.columns)
    body = []
    for row in table.rows:
        if len(row) != len(table.columns):
            raise ValueError(f"expected {len(table.columns)} cells, got {row}")
        cells = (
            f"<td{'' if isinstance(cell, str) else ' class=n'}>{html.escape(show(cell))}</td>"
            for cell in row
        )
        body.append(f"<tr>{''.join(cells)}</tr>")
    caption = f"<caption>{html.escape(table.caption)}</caption>" if table.caption else ""
    return (
        f"<div class=scroll><table>{caption}<thead><tr>{head}</tr></thead>"
        f"<tbody>{''.join(body)}</tbody></table></div>"
    )


def _settings(ink: str, faint: str) -> Any:
    """matplotlib's settings, whose type differs between its versions."""
    return {
        "svg.fonttype": "none",
        "font.family": "sans-serif",
        "font.size": 10,
        "text.color": ink,
        "axes.labelcolor": ink,
        "axes.edgecolor": ink,
        "xtick.color": ink,
        "ytick.color": ink,
        "grid.color": faint,
        "axes.grid": True,
        "axes.axisbelow": True,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "legend.frameon": False,
    }


def _svg(plot: LinePlot | BarPlot, prefix: str) -> str:
    """The plot as an SVG element whose ids no other plot of the page has."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    file = io.StringIO()
    with rc_context(_settings(_INK, _FAINT) | {"svg.hashsalt": prefix}):
        figure = Figure(figsize=(8.4, 3.9), layout="constrained")
        _draw(figure.subplots(), plot, _INK)
        figure.savefig(file, format="svg", transparent=True, metadata={"Date": None})
    svg = file.getvalue()
    svg = svg[svg.index("<svg") :].replace(_INK, "var(--ink)").replace(_FAINT, "var(--faint)")
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'(\bid="|url\(#|href="#)', rf"\g<1>{prefix}-", svg)
    label = html.escape(plot.title, quote=True)
    return svg.replace("<svg ", f'<svg role="img" aria-label="{label}" ', 1)


def _draw(axes: Axes, plot: LinePlot | BarPlot, ink: str) -> None:
    if isinstance(plot, LinePlot):
        _draw_lines(axes, plot)
        labelled = len(plot.series)
    else:
        _draw_bars(axes, plot)
        labelled = len(plot.values)
    if plot.log_y:
        axes.set_yscale("log")
    if plot.target is not None:
        axes.axhline(plot.target, color=ink, linestyle="--", linewidth=1, label=plot.target_label)
    axes.set_ylabel(plot.y_label)
    if labelled > 1 or plot.target is not None:
        columns = 1 if labelled < 6 else 2
        axes.legend(fontsize=8, ncols=columns, loc="upper left", bbox_to_anchor=(1.0, 1.0))


def _draw_lines(axes: Axes, plot: LinePlot) -> None:
    for place, series in enumerate(plot.series):
        marker = "o" if plot.markers else ""
        colour = COLOURS[place % len(COLOURS)]
        style = "-" if place < len(COLOURS) else ":"
        axes.plot(
            series.x, series.y, style, marker=marker, markersize=4, linewidth=1.6, color=colour,
            label=series.label,
        )  # fmt: skip
    for value in plot.marked:
        axes.axvline(value, color=_FAINT, linewidth=0.8)
    if plot.log_x:
        axes.set_xscale("log", base=2)
        ticks = sorted({x for series in plot.series for x in series.x})
        axes.set_xticks(ticks, [show(tick) for tick in ticks])
        axes.minorticks_off()
    axes.set_xlabel(plot.x_label)


def _draw_bars(axes: Axes, plot: BarPlot) -> None:
    width = 0.8 if plot.stacked else 0.8 / max(len(plot.values), 1)
    below = [plot.base] * len(plot.groups)
    for place, (label, values) in enumerate(plot.values.items()):
        heights = [plot.base if value is None else value for value in values]
        if len(heights) != len(plot.groups):
            raise ValueError(f"expected {len(plot.groups)} values of {label!r}, got {len(heights)}")
        shift = 0.0 if plot.stacked else width * (place - (len(plot.values) - 1) / 2)
        places = [group + shift for group in range(len(plot.groups))]
        tall = [height - plot.base for height in heights]
        axes.bar(places, tall, width, below, color=COLOURS[place % len(COLOURS)], label=label)
        if plot.stacked:
            below = [low + height for low, height in zip(below, tall, strict=True)]
    turned = 30 if sum(map(len, plot.groups)) > 70 else 0
    axes.set_xticks(
        range(len(plot.groups)), plot.groups, rotation=turned, ha="right" if turned else "center"
    )
    axes.grid(visible=False, axis="x")


_STYLE: Final = """
:root { color-scheme: light dark; --ink: #1d2127; --faint: #dcdfe3; --paper: #fff; --soft: #f4f5f7 }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e4e6ea; --faint: #3a3f47; --paper: #16181c; --soft: #1f2227 } }
body { margin: 0; background: var(--paper); color: var(--ink);
  font: 15px/1.5 system-ui, sans-serif }
main { max-width: 62rem; margin: 0 auto; padding: 2rem 1.2rem 4rem }
h1 { font-size: 1.6rem; margin: 0 0 .6rem } h2 { font-size: 1.15rem; margin: 2.2rem 0 .4rem }
p { max-width: 46rem; margin: .5rem 0 }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .15rem 1rem; margin: 1rem 0;
  padding: .8rem 1rem; background: var(--soft); border-radius: 6px; font-size: .9rem }
dt { opacity: .7 } dd { margin: 0; overflow-wrap: anywhere }
figure { margin: 1.2rem 0 } figcaption { font-size: .85rem; opacity: .75 }
svg { width: 100%; height: auto; max-width: 54rem } svg text { font-family: system-ui, sans-serif }
.scroll { overflow-x: auto; margin: 1rem 0 }
table { border-collapse: collapse; font-size: .88rem; font-variant-numeric: tabular-nums }
caption { text-align: left; opacity: .75; padding: .2rem 0 }
th { text-align: left; font-weight: 600 }
th, td { padding: .25rem .7rem; border-bottom: 1px solid var(--faint); white-space: nowrap }
td.n { text-align: right }
"""
