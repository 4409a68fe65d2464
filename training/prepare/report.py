"""What was left out and why, in figures that add up."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Final, Literal, get_args

Stage = Literal["check", "resample", "shots", "faces", "cut", "sync", "quality"]
STAGES: Final[tuple[Stage, ...]] = get_args(Stage)


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of `report.jsonl`.

    Attributes:
        file: the source, relative to the folder of videos.
        start_s, seconds: which part of it.
        kept: nothing was left out; the finding is only worth knowing.
    """

    file: str
    stage: Stage
    reason: str
    start_s: float
    seconds: float
    kept: bool = False

    def to_json(self) -> str:
        return json.dumps(asdict(self), ensure_ascii=False)


@dataclass(frozen=True, slots=True)
class StageTotal:
    """What a stage left out: how many minutes, in how many parts, most of it why."""

    stage: Stage
    seconds: float
    parts: int
    reasons: tuple[tuple[str, float], ...]


def stage_totals(findings: Iterable[Finding]) -> list[StageTotal]:
    """Of every stage that left something out, in the order of the stages."""
    left_out = [finding for finding in findings if not finding.kept]
    totals = []
    for stage in STAGES:
        mine = [finding for finding in left_out if finding.stage == stage]
        if not mine:
            continue
        by_reason: dict[str, float] = {}
        for finding in mine:
            # What follows a colon is of this one file.
            kind = finding.reason.partition(":")[0]
            by_reason[kind] = by_reason.get(kind, 0.0) + finding.seconds
        reasons = sorted(by_reason.items(), key=lambda item: (-item[1], item[0]))
        seconds = sum(finding.seconds for finding in mine)
        totals.append(StageTotal(stage, seconds, len(mine), tuple(reasons)))
    return totals


def minutes(seconds: float) -> str:
    """Minutes, or seconds where there are few."""
    return f"{seconds / 60:.1f} min" if seconds >= 90.0 else f"{seconds:.1f} s"


def worst_reasons(total: StageTotal, most: int = 3) -> str:
    """The reasons that cost most, for a table's cell."""
    shown: Sequence[tuple[str, float]] = total.reasons[:most]
    text = ", ".join(f"{reason} ({minutes(seconds)})" for reason, seconds in shown)
    rest = len(total.reasons) - len(shown)
    return f"{text}, {rest} more" if rest else text
