"""Asks a Prometheus every query of Grafana's board: which panels have data, and how they look.

python -m benchmarks.board_queries http://localhost:9090 --minutes 15 --picture board.png

Prints a line for each panel; the exit status is 1 where one has no series that may not be empty.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

BOARD = Path(__file__).parent.parent / "deploy" / "grafana" / "dashboards" / "lipwire.json"
# Nothing is refused, denied, dropped or broken on a good day, and a client may report no packets.
MAY_BE_EMPTY = {
    "Requests denied", "Dropped", "Packets lost", "Jitter, p95", "Round trip",
    "How long calls lasted",
}  # fmt: skip
POINTS = 120
COLUMNS = 3


@dataclass(frozen=True, slots=True)
class Series:
    """One line of a panel.

    Attributes:
        times, values: of the points that there are; Unix time.
    """

    label: str
    times: list[float]
    values: list[float]


@dataclass(frozen=True, slots=True)
class Panel:
    """A panel with what Prometheus answered."""

    row: str
    title: str
    series: list[Series]


def ask_board(url: str, minutes: float) -> list[Panel]:
    """Every panel over the last minutes.

    Raises:
        httpx.HTTPError: Prometheus cannot be reached, or does not understand a query.
    """
    board = json.loads(BOARD.read_text(encoding="utf-8"))
    panels, row = [], ""
    with httpx.Client(base_url=url, timeout=30) as client:
        for panel in board["panels"]:
            if panel["type"] == "row":
                row = panel["title"]
                continue
            series = [
                found for target in panel["targets"] for found in _ask(client, target, minutes)
            ]
            panels.append(Panel(row, panel["title"], series))
    return panels


def _ask(client: httpx.Client, target: dict[str, Any], minutes: float) -> list[Series]:
    now = time.time()
    query = target["expr"].replace("$__rate_interval", "1m").replace("$instance", ".*")
    step = max(minutes * 60 / POINTS, 1)
    answer = client.get(
        "/api/v1/query_range",
        params={"query": query, "start": now - minutes * 60, "end": now, "step": step},
    ).raise_for_status()
    found = []
    for result in answer.json()["data"]["result"]:
        points = [(at, float(value)) for at, value in result["values"] if value != "NaN"]
        if points:
            label = target.get("legendFormat", "")
            for name, value in result["metric"].items():
                label = label.replace(f"{{{{{name}}}}}", value)
            found.append(Series(label, [at for at, _ in points], [value for _, value in points]))
    return found


def draw(panels: Sequence[Panel], file: Path) -> None:
    """Writes all panels as one PNG."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    rows = -(-len(panels) // COLUMNS)
    figure, axes = pyplot.subplots(rows, COLUMNS, figsize=(6 * COLUMNS, 2.6 * rows), squeeze=False)
    for axis in axes.flat:
        axis.set_axis_off()
    for panel, axis in zip(panels, axes.flat, strict=False):
        axis.set_axis_on()
        axis.set_title(f"{panel.row}: {panel.title}", fontsize=9)
        axis.tick_params(labelsize=7)
        for series in panel.series:
            began = series.times[0]
            axis.plot([at - began for at in series.times], series.values, label=series.label)
        if any(series.label for series in panel.series):
            axis.legend(fontsize=6)
    figure.tight_layout()
    figure.savefig(file, dpi=70)


def main(argv: Sequence[str] | None = None) -> int:
    """Asks and prints; the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("url", help="of Prometheus")
    parser.add_argument("--minutes", type=float, default=15.0)
    parser.add_argument("--picture", type=Path, metavar="PNG", help="draw all panels into it")
    given = parser.parse_args(argv)
    panels = ask_board(given.url, given.minutes)
    for panel in panels:
        last = ", ".join(f"{s.label} {s.values[-1]:.4g}".strip() for s in panel.series[:4])
        print(f"{panel.row:18} {panel.title:32} {len(panel.series):3} series  {last}")  # noqa: T201
    if given.picture:
        draw(panels, given.picture)
    empty = [p.title for p in panels if not p.series and p.title not in MAY_BE_EMPTY]
    if empty:
        print(f"no data: {', '.join(empty)}", file=sys.stderr)  # noqa: T201
    return 1 if empty else 0


if __name__ == "__main__":
    sys.exit(main())
