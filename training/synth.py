"""Writes the whole synthetic corpus: speech with its mouths, then faces that say it.

    python -m training.synth --out DIR --speech-minutes 330 --clips 1120 --seed 1 \\
        [--processes 2] [--without openjtalk] [--sheet corpus.png]

DIR/speech is what `training.speech.corpus` writes, DIR/faces what
`training.faces.corpus` does: the folder that every training loop reads.

Both come in parts with random numbers of their own, so that the bytes depend on
the arguments alone and not on the number of processes. A part appears when it
is complete: after a kill the same command keeps the finished parts and makes
the others. A part that cannot be made or read is left out and named, with the
reason, on the log and in DIR/left_out.json; the same command makes it anew.
"""

from __future__ import annotations

import argparse
import json
import logging
import multiprocessing
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import cv2
import numpy as np

from engine.media import FPS
from training.avatar_clips import FIRST_SHARD as FIRST_AVATAR_SHARD
from training.contact_sheet import draw_sheet
from training.faces.corpus import SHARD_CLIPS, SpeechShelf, write_shard
from training.speech.corpus import Settings, write_corpus
from training.speech.engines import ENGINES

log = logging.getLogger(__name__)

MOST_CLIPS: Final = FIRST_AVATAR_SHARD * SHARD_CLIPS
_FRAME_FILES: Final = ("crops", "source", "mouth")  # one row a frame


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A part of the corpus that is not in it, and why."""

    file: str
    reason: str


@dataclass(frozen=True, slots=True)
class Shard:
    """One shard of faces to render."""

    index: int
    clips: int

    @property
    def number(self) -> str:
        return f"{self.index:02d}"

    def is_in(self, folder: Path) -> bool:
        """Whether readers see it: a shard is found by its listing, which is written last."""
        return (folder / f"crops_{self.number}.json").is_file()


def shards_of(clips: int) -> list[Shard]:
    """The shards that hold `clips`; only the last is short.

    Raises:
        ValueError: more than `MOST_CLIPS`, where the avatars' shards begin.
    """
    if clips > MOST_CLIPS:
        raise ValueError(f"expected at most {MOST_CLIPS} clips, got {clips}")
    return [
        Shard(index, min(SHARD_CLIPS, clips - first))
        for index, first in enumerate(range(0, clips, SHARD_CLIPS))
    ]


def render_shard(faces: Path, speech: Path, shard: Shard, seed: int) -> None:
    """The files of `shard` in `faces`, its listing last."""
    cv2.setNumThreads(1)
    partial = faces / f"shard_{shard.number}.partial"
    shutil.rmtree(partial, ignore_errors=True)
    write_shard(partial, shard.index, shard.clips, seed, SpeechShelf(speech))
    for path in sorted(partial.iterdir(), key=lambda path: path.suffix == ".json"):
        path.replace(faces / path.name)
    partial.rmdir()


def fault_of(faces: Path, shard: Shard) -> str | None:
    """What is wrong with a finished shard, or None: unreadable files, or lengths that differ."""
    try:
        listing = json.loads((faces / f"crops_{shard.number}.json").read_text(encoding="utf-8"))
        frames = sum(entry["frames"] for entry in listing)
        for name in _FRAME_FILES:
            rows = len(np.load(faces / f"{name}_{shard.number}.npy", mmap_mode="r"))
            if rows != frames:
                return f"expected {frames} rows in {name}_{shard.number}.npy, found {rows}"
    except (OSError, ValueError, KeyError, TypeError) as error:
        return f"{type(error).__name__}: {error}"
    return None


def withdraw(faces: Path, shard: Shard) -> None:
    """Hides a shard from readers, and from the next run, which makes it anew."""
    (faces / f"crops_{shard.number}.json").unlink(missing_ok=True)


def workers(processes: int) -> Executor:
    """Processes that share nothing with this one, not even a library's threads."""
    return ProcessPoolExecutor(processes, mp_context=multiprocessing.get_context("spawn"))


def _rendered(
    faces: Path, speech: Path, shards: Sequence[Shard], seed: int, processes: int
) -> Iterator[tuple[Shard, str | None]]:
    """Every shard as it is finished, or the reason why it is not."""
    with workers(processes) as pool:
        running = {pool.submit(render_shard, faces, speech, shard, seed): shard for shard in shards}
        for future in as_completed(running):
            error = future.exception()
            reason = None if error is None else f"{type(error).__name__}: {error}"
            yield running[future], reason


def write_faces(faces: Path, speech: Path, clips: int, seed: int, processes: int) -> list[LeftOut]:
    """All shards of faces that are not there yet, and which of all shards had to be left out."""
    faces.mkdir(parents=True, exist_ok=True)
    shards = shards_of(clips)
    left_out: list[LeftOut] = []
    for shard in shards:
        if shard.is_in(faces) and (fault := fault_of(faces, shard)) is not None:
            log.warning("shard %s is made anew: %s", shard.number, fault)
            withdraw(faces, shard)
    missing = [shard for shard in shards if not shard.is_in(faces)]
    log.info("faces: %d of %d shards to render", len(missing), len(shards))
    began = time.monotonic()
    for done, (shard, reason) in enumerate(
        _rendered(faces, speech, missing, seed, processes), start=1
    ):
        fault = reason or fault_of(faces, shard)
        if fault is not None:
            withdraw(faces, shard)
            left_out.append(LeftOut(f"faces/crops_{shard.number}", fault))
            log.error("faces: shard %s left out: %s", shard.number, fault)
        left_s = (time.monotonic() - began) / done * (len(missing) - done)
        log.info("faces: %d of %d shards, %.0f min left", done, len(missing), left_s / 60)
    return left_out


def seconds_of(corpus: Path) -> tuple[float, float]:
    """Seconds of speech and of faces in `corpus`."""

    def total(pattern: str) -> float:
        listings = [json.loads(path.read_text(encoding="utf-8")) for path in corpus.glob(pattern)]
        frames: int = sum(entry["frames"] for listing in listings for entry in listing)
        return frames / FPS

    return total("speech/*/clips.json"), total("faces/crops_*.json")


def write_everything(
    out: Path, speech: Settings, clips: int, processes: int, sheet: Path | None
) -> list[LeftOut]:
    """The corpus in `out`, and what had to be left out of it.

    Raises:
        SpeechEngineError: a synthesiser is absent and not left out by the settings.
        ValueError: `out` holds a corpus of other settings.
    """
    began, before = time.monotonic(), seconds_of(out)
    write_corpus(out / "speech", speech, processes)
    spoken = time.monotonic()
    note = json.loads((out / "speech" / "corpus.json").read_text(encoding="utf-8"))
    left_out = [LeftOut(f"speech/{row['file']}", row["reason"]) for row in note["left_out"]]
    left_out += write_faces(out / "faces", out / "speech", clips, speech.seed, processes)
    rendered = time.monotonic()
    after = seconds_of(out)
    for name, made_s, spent_s in (
        ("speech", after[0] - before[0], spoken - began),
        ("faces", after[1] - before[1], rendered - spoken),
    ):
        log.info("%s: %.1f min, %.1f times real time", name, made_s / 60, made_s / spent_s)
    text = json.dumps([asdict(entry) for entry in left_out], indent=1)
    (out / "left_out.json").write_text(text + "\n", encoding="utf-8")
    if sheet is not None:
        draw_sheet(out, sheet)
        log.info("contact sheet: %s", sheet)
    return left_out


def main() -> int:
    parser = argparse.ArgumentParser(description="Write the synthetic corpus: speech and faces.")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--speech-minutes", type=float, default=330.0)
    parser.add_argument("--clips", type=int, default=1120, help="clips of faces")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument(
        "--without", nargs="*", choices=ENGINES, default=[], help="synthesisers to leave out"
    )
    parser.add_argument("--sheet", type=Path, help="picture of the corpus to write, .png or .jpg")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    settings = Settings(arguments.speech_minutes, arguments.seed, tuple(arguments.without))
    left_out = write_everything(
        arguments.out, settings, arguments.clips, arguments.processes, arguments.sheet
    )
    for entry in left_out:
        log.warning("left out: %s: %s", entry.file, entry.reason)
    return 1 if left_out else 0


if __name__ == "__main__":
    sys.exit(main())
