"""What the page says of the sync expert: its figures, and how far they can be trusted.

python -m benchmarks.quality.expert_page training/weights/sync_accuracy.json --picture roc.png
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from benchmarks.report import Block, LinePlot, Section, Series, Table, save_plots

EXPERT_TEXT: Final = """
A small network that was trained on other faces and voices looks at mouths of 32 px and hears their
sound, 16 frames at a time, and tries 15 frames either way: the offset at which they fit best
(pictures late are positive), the distance there (0 to 1.42, smaller fits better), and the median
over offsets less that distance, its confidence: near 0, nothing fits. The figures compare runs of
this page; they are not other networks' LSE-D and LSE-C.
"""

Named = tuple[str, int | None, int | None, dict[str, Any]]


def with_floors(rows: Sequence[dict[str, Any]], floors: dict[str, Any]) -> list[Named]:
    """(way, hop, steps, row) of the floors and then of every way."""
    named: list[Named] = [
        (f"whole takes: {name.replace('_', ' ')}", None, None, row) for name, row in floors.items()
    ]
    return named + [(row["way"], row["hop"], row["steps"], row) for row in rows]


def expert_section(
    rows: Sequence[dict[str, Any]], floors: dict[str, Any], accuracy: dict[str, Any] | None = None
) -> list[Section]:
    """What the expert says of every way and of the floors; nothing where it was not asked.

    Args:
        accuracy: its own, of `training.sync_accuracy`.
    """
    asked = [
        (way, hop, steps, row["expert"])
        for way, hop, steps, row in with_floors(rows, floors)
        if row.get("expert")
    ]
    if not asked:
        return []
    table = Table(
        ("way", "hop", "steps", "offset, frames", "distance", "confidence", "distance as it is"),
        [
            (way, hop, steps, said["offset_frames"], said["distance"], said["confidence"],
             said["here"])
            for way, hop, steps, said in asked
        ],
    )  # fmt: skip
    return [Section("Sync expert", EXPERT_TEXT, [table, *accuracy_blocks(accuracy)])]


def accuracy_blocks(accuracy: dict[str, Any] | None) -> list[Block]:
    """Planted offsets found by split and by length, and the ROC of whole clips."""
    if accuracy is None:
        return []
    parts = {"all": accuracy["all"], **accuracy["splits"]}
    rows = []
    for name, part in parts.items():
        for span, found in part["offsets"].items():
            if "exact" in found:
                rows.append(
                    (name, span, found["stretches"], found["exact"], found["within_1"],
                     found["within_2"], found["mean_error_frames"])
                )  # fmt: skip
    table = Table(
        ("held out", "frames seen", "stretches", "exact", "within 1", "within 2", "mean error"),
        rows,
        f"the expert's own accuracy: offsets of -{accuracy['planted_frames']} to "
        f"{accuracy['planted_frames']} frames, planted in held-out faces",
    )
    return [table, roc_plot(parts)]


def roc_plot(parts: dict[str, dict[str, Any]]) -> LinePlot:
    """Clips in sync told from the same with sound that was moved, by split."""
    series = []
    for name, part in parts.items():
        found = part["roc"]["clip"].get("moved")
        if found:
            label = f"{name}, area {found['area']:.3f}"
            series.append(Series(label, found["false_accept"], found["accept"]))
    return LinePlot(
        "In sync against sound moved by 3 to 10 frames, whole clips",
        "out of sync taken for in sync",
        "in sync taken for it",
        series,
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Draws the ROC of a report; the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.quality.expert_page",
        description="Draw how well the sync expert tells sync from none.",
    )
    parser.add_argument("report", type=Path, help="sync_accuracy.json")
    parser.add_argument("--picture", type=Path, required=True, help="PNG to write")
    options = parser.parse_args(arguments)
    accuracy = json.loads(options.report.read_text(encoding="utf-8"))
    save_plots(options.picture, [roc_plot({"all": accuracy["all"], **accuracy["splits"]})])
    return 0


if __name__ == "__main__":
    sys.exit(main())
