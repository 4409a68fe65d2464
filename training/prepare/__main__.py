"""Makes training clips of people's own videos.

    python -m training.prepare --videos DIR --out DIR --processes 4

DIR may hold folders, one a person: nobody is both trained on and validated with. What a run
writes, what it leaves out and why: docs/data-preparation.md.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from engine.errors import ConfigError, LipwireError
from engine.face.detect import has_insightface
from training.prepare.check import declared_seconds
from training.prepare.listing import HyperIqa, make_listing, print_summary
from training.prepare.one_source import PASSES
from training.prepare.quality import MIN_QUALITY
from training.prepare.records import Prepared
from training.prepare.run import Job, read_record, run_sources
from training.prepare.settings import Settings
from training.prepare.sources import Source, find_sources, split_people
from training.prepare.sync import MAX_OFFSET_FRAMES
from training.prepare.tools import ToolPlan

if TYPE_CHECKING:
    from training.prepare.judges import JudgePlan


def main(arguments: Sequence[str] | None = None) -> int:
    """Prepares a folder of videos; the exit status."""
    options = _parser().parse_args(arguments)
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    console = Console()
    try:
        _prepare(options, console)
    except (LipwireError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201
        return 1
    return 0


def _prepare(options: argparse.Namespace, console: Console) -> None:
    hyperiqa = None if options.hyperiqa is None else HyperIqa.read(options.hyperiqa)
    sources = find_sources(options.videos)
    judge = _judge_plan(options.sync)
    settings = Settings(
        resolution=options.resolution,
        shortest_s=options.shortest,
        longest_s=options.longest,
        smallest_face=options.smallest_face or options.resolution / 2,
        detector="insightface" if options.models and has_insightface(options.models) else "cascade",
        sync="none" if judge is None else judge.name,
        min_confidence=_min_confidence(judge, options.min_confidence),
        max_offset_frames=options.max_offset,
        min_quality=options.min_quality,
    )
    options.out.mkdir(parents=True, exist_ok=True)
    settings.claim(options.out)
    todo = [source for source in sources if read_record(options.out, source) is None]
    if len(todo) < len(sources):
        console.print(f"{len(sources) - len(todo)} of {len(sources)} videos were done before")
    job = Job(settings, ToolPlan(options.models, judge), options.out)
    spent = _run(todo, job, options.processes, console)
    prepared = [_record(options.out, source) for source in sources]
    people = {source.person for source, one in zip(sources, prepared, strict=True) if one.clips}
    by_person = split_people(people, options.validation, options.seed)
    splits = {source.name: by_person.get(source.person, "train") for source in sources}
    listing = make_listing(prepared, splits, hyperiqa)
    listing.write(options.out)
    print_summary(listing, spent, console)


def _judge_plan(asked: str) -> JudgePlan | None:
    if asked == "none":
        return None
    # Every process imports this module again, and torch takes seconds.
    from training.prepare.judges import judge_plan

    return judge_plan(asked)


def _min_confidence(judge: JudgePlan | None, asked: float | None) -> float:
    if judge is None:
        return 0.0
    least = judge.min_confidence if asked is None else asked
    if least is None:
        raise ConfigError(
            "expected --min-confidence with the published network: prepare some videos with 0 "
            "first, the summary shows what confidences it gives"
        )
    return least


def _record(folder: Path, source: Source) -> Prepared:
    record = read_record(folder, source)
    assert record is not None  # `run_sources` leaves one for every source
    return record


def _run(todo: Sequence[Source], job: Job, processes: int, console: Console) -> dict[str, float]:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:.0f} %"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as progress:
        total = PASSES * sum(declared_seconds(source.path) for source in todo)
        task = progress.add_task(f"{len(todo)} videos", total=total)
        spent = run_sources(todo, job, processes, lambda seconds: progress.advance(task, seconds))
        progress.update(task, completed=total)
    return spent


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m training.prepare", description="Make training clips of videos."
    )
    parser.add_argument("--videos", type=Path, required=True, help="folder of videos")
    parser.add_argument("--out", type=Path, required=True, help="folder for the clips")
    parser.add_argument("--resolution", type=int, default=256, help="pixels a side (256)")
    parser.add_argument("--processes", type=int, default=1, help="videos in work at once (1)")
    parser.add_argument("--models", type=Path, help="folder with InsightFace's files")
    parser.add_argument("--shortest", type=float, default=3.0, help="seconds of a clip (3)")
    parser.add_argument("--longest", type=float, default=10.0, help="seconds of a clip (10)")
    parser.add_argument(
        "--smallest-face",
        type=float,
        help="pixels of the video that a face's crop must take (half the resolution)",
    )
    parser.add_argument(
        "--sync",
        default="expert",
        metavar="JUDGE",
        help="expert (the default), an expert's folder, stable_syncnet.pt, or none",
    )
    parser.add_argument("--min-confidence", type=float, help="of sync (the judge's own limit)")
    parser.add_argument(
        "--max-offset", type=int, default=MAX_OFFSET_FRAMES, help="frames that sound may be off (6)"
    )
    parser.add_argument(
        "--min-quality", type=float, default=MIN_QUALITY, help="of the pictures, 0 to 100 (40)"
    )
    parser.add_argument("--hyperiqa", type=Path, help="HyperIQA's scores of the clips, as lines")
    parser.add_argument("--validation", type=float, default=0.05, help="share of people (0.05)")
    parser.add_argument("--seed", type=int, default=0, help="of who is for validation (0)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
