"""What a run leaves beside its clips: `clips.jsonl`, `report.jsonl`, and the summary."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import numpy as np
from rich.console import Console
from rich.table import Table

from engine.errors import ConfigError
from engine.media import FPS
from training.prepare.files import write_lines
from training.prepare.records import ClipRecord, Prepared
from training.prepare.report import Finding, minutes, stage_totals, worst_reasons
from training.prepare.sources import Split

CLIPS_FILE: Final = "clips.jsonl"
REPORT_FILE: Final = "report.jsonl"
MIN_HYPERIQA: Final = 40.0  # LatentSync's own


@dataclass(frozen=True, slots=True)
class HyperIqa:
    """Scores of HyperIQA, made elsewhere, that decide instead of the measured quality."""

    scores: Mapping[str, float]
    least: float = MIN_HYPERIQA

    @classmethod
    def read(cls, path: Path, least: float = MIN_HYPERIQA) -> HyperIqa:
        """The scores of a file with lines {"file": "clips/...", "score": 0 to 100}.

        Raises:
            ConfigError: it cannot be read.
        """
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
            entries = [json.loads(line) for line in lines if line.strip()]
            return cls({str(entry["file"]): float(entry["score"]) for entry in entries}, least)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ConfigError(
                f'{path}: expected lines of {{"file": ..., "score": ...}}, {error!r}'
            ) from error


@dataclass(frozen=True, slots=True)
class Listing:
    """All that came out.

    Attributes:
        clips: in the order of the sources, each with its split.
        seconds: of pictures that came in.
    """

    clips: tuple[tuple[ClipRecord, Split], ...]
    findings: tuple[Finding, ...]
    seconds: float
    sources: int

    @property
    def kept_s(self) -> float:
        return sum(clip.frames for clip, _ in self.clips) / FPS

    def write(self, folder: Path) -> None:
        """Writes `clips.jsonl` and `report.jsonl`."""
        lines = []
        for clip, split in self.clips:
            lines.append(json.dumps({**asdict(clip), "split": split}, ensure_ascii=False))
        write_lines(folder / REPORT_FILE, (finding.to_json() for finding in self.findings))
        write_lines(folder / CLIPS_FILE, lines)


def make_listing(
    prepared: Sequence[Prepared], splits: Mapping[str, Split], hyperiqa: HyperIqa | None
) -> Listing:
    """The listing of all sources.

    Args:
        splits: of every source's name.
        hyperiqa: a clip below its limit is reported and not listed; one that it does not know
            keeps the measured quality.
    """
    clips: list[tuple[ClipRecord, Split]] = []
    findings: list[Finding] = []
    for source in prepared:
        findings += source.findings
        for clip in source.clips:
            score = None if hyperiqa is None else hyperiqa.scores.get(clip.file)
            if hyperiqa is not None and score is not None and score < hyperiqa.least:
                reason = f"poor pictures: HyperIQA {score:.0f}"
                seconds = clip.frames / FPS
                findings.append(Finding(source.source, "quality", reason, clip.start_s, seconds))
                continue
            kept = clip if score is None else _with_quality(clip, score)
            clips.append((kept, splits[source.source]))
    seconds = sum(source.seconds for source in prepared)
    return Listing(tuple(clips), tuple(findings), seconds, len(prepared))


def _with_quality(clip: ClipRecord, quality: float) -> ClipRecord:
    return ClipRecord(**{**asdict(clip), "quality": quality})


def print_summary(listing: Listing, spent_s: Mapping[str, float], console: Console) -> None:
    """How many minutes came in and out, what every stage cost in them, and in work.

    Args:
        spent_s: seconds of work by stage, of this run only.
    """
    by_split = {
        split: sum(clip.frames for clip, own in listing.clips if own == split) / FPS
        for split in ("train", "validation")
    }
    count = len(listing.clips)
    console.print(f"in   {minutes(listing.seconds)} of video in {listing.sources} files")
    console.print(
        f"out  {minutes(listing.kept_s)} in {count} clips "
        f"({minutes(by_split['train'])} train, {minutes(by_split['validation'])} validation)"
    )
    found = [clip.sync_confidence for clip, _ in listing.clips if clip.sync_confidence > 0]
    if found:
        low, middle, high = np.percentile(found, (10, 50, 90))
        console.print(f"sync confidence {low:.3g}, {middle:.3g}, {high:.3g} (10th, 50th, 90th %)")
    table = Table("stage", "left out", "parts", "why", box=None, pad_edge=False)
    for total in stage_totals(listing.findings):
        table.add_row(total.stage, minutes(total.seconds), str(total.parts), worst_reasons(total))
    if table.row_count:
        console.print(table)
    if spent_s:
        work = ", ".join(f"{stage} {seconds:.1f} s" for stage, seconds in spent_s.items())
        console.print(f"work {work}")
