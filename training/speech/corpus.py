"""Writes a corpus of synthetic speech with its mouth tracks.

    python -m training.speech.corpus --out DIR --minutes 120 --seed 1 [--processes 2]

DIR gets one folder a split (`training.speech.voices.SPLITS`), each with

    audio.npy   int16 [frames * 640], 16 kHz, clip after clip
    mouth.npy   float32 [frames, 7], see `training.mouth`
    clips.json  [{"start": frame, "frames": n, "engine", "voice", "language",
                  "kind": "speech" | "rest", "recorded": bool, "texts": [...]}]

A clip is 8 to 14 s of one voice with pauses; a few clips are noise or silence
under a resting mouth. `recorded` clips went through `augment.record`.

The work is cut into parts of four minutes, each with random numbers of its own,
written whole or not at all: a run that was killed goes on where it stood, and
the same seed, minutes and engines give the same bytes from any number of
processes. corpus.json has these settings, the minutes of every engine and
language, and which clips an engine failed at, with the reason; they are left out.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import logging
import multiprocessing
import shutil
from collections.abc import Collection, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from engine.media import FPS
from training.speech.clips import Clip, ClipMaker
from training.speech.engines import ENGINES, require
from training.speech.utterance import EngineName, SpeechEngineError
from training.speech.voices import SPLITS, Split, engines_of, voices_needed

log = logging.getLogger(__name__)

_SHARES: Final[dict[Split, float]] = {
    "train": 0.86,
    "sentences": 0.04,
    "voices": 0.045,
    "language": 0.025,
    "engine": 0.03,
    "neural": 0.03,
}
PART_MINUTES: Final = 4.0
_MOST_FAILURES: Final = 20  # of one part: beyond it the engine is broken, not the text


@dataclass(frozen=True, slots=True)
class Settings:
    """What decides every byte of a corpus."""

    minutes: float
    seed: int
    without: tuple[EngineName, ...] = ()


@dataclass(frozen=True, slots=True)
class Part:
    """Some minutes of one split."""

    split: Split
    number: int
    minutes: float

    @property
    def name(self) -> str:
        return f"{self.split}-{self.number:03d}"


def parts_of(split: Split, minutes: float) -> list[Part]:
    """The parts that make up `minutes` of `split`; the last one is the shorter."""
    whole = int(minutes // PART_MINUTES)
    parts = [Part(split, number, PART_MINUTES) for number in range(whole)]
    rest = minutes - whole * PART_MINUTES
    return [*parts, Part(split, whole, rest)] if rest > 0 or not parts else parts


def write_clips(folder: Path, clips: Sequence[Clip], left_out: Sequence[str] = ()) -> None:
    """The three files of a split or of a part of one, and of a part what it left out."""
    folder.mkdir(parents=True, exist_ok=True)
    audio = [np.round(clip.samples * 32767.0).astype(np.int16) for clip in clips]
    np.save(folder / "audio.npy", np.concatenate(audio))
    np.save(folder / "mouth.npy", np.concatenate([clip.mouth for clip in clips]))
    rows = []
    start = 0
    for clip in clips:
        row = dataclasses.asdict(clip)
        del row["samples"], row["mouth"]
        rows.append({"start": start, "frames": len(clip.mouth), **row})
        start += len(clip.mouth)
    _write_rows(folder / "clips.json", rows)
    if left_out:
        _write_rows(folder / "left_out.json", list(left_out))


def write_part(folder: Path, part: Part, settings: Settings) -> None:
    """The part's clips in `folder`/NAME, which appears when it is complete.

    Raises:
        SpeechEngineError: an engine failed again and again.
    """
    rng = np.random.default_rng((settings.seed, SPLITS.index(part.split), part.number))
    maker = ClipMaker(part.split, rng, settings.without)
    clips: list[Clip] = []
    left_out: list[str] = []
    made = 0
    while made < part.minutes * 60 * FPS:
        try:
            clips.append(maker.make())
        except (SpeechEngineError, KeyError) as error:
            left_out.append(f"{type(error).__name__}: {error}")
            if len(left_out) > _MOST_FAILURES:
                raise SpeechEngineError(f"part {part.name}: {left_out[-1]}") from error
        else:
            made += len(clips[-1].mouth)
    partial = folder / f"{part.name}.partial"
    shutil.rmtree(partial, ignore_errors=True)
    write_clips(partial, clips, left_out)
    partial.rename(folder / part.name)


def join_parts(parts_folder: Path, parts: Iterable[Part], out: Path) -> list[dict[str, str]]:
    """One split in `out` of its parts, and what they left out, as (file, reason)."""
    folders = [parts_folder / part.name for part in parts]
    rows: list[dict[str, Any]] = []
    left_out: list[dict[str, str]] = []
    start = 0
    for folder in folders:
        clips = json.loads((folder / "clips.json").read_text(encoding="utf-8"))
        rows += [{**clip, "start": clip["start"] + start} for clip in clips]
        start += clips[-1]["start"] + clips[-1]["frames"]
        if (listed := folder / "left_out.json").is_file():
            reasons = json.loads(listed.read_text(encoding="utf-8"))
            left_out += [{"file": folder.name, "reason": reason} for reason in reasons]
    partial = out.with_name(f"{out.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    for name in ("audio.npy", "mouth.npy"):
        np.save(partial / name, np.concatenate([np.load(folder / name) for folder in folders]))
    _write_rows(partial / "clips.json", rows)
    partial.rename(out)
    return left_out


def write_corpus(out: Path, settings: Settings, processes: int = 1) -> None:
    """All splits under `out`, but for what is there already.

    Raises:
        SpeechEngineError: an engine is absent, or failed again and again.
        ValueError: `out` holds a corpus of other settings.
    """
    require(voices_needed(settings.without))
    note = _claim(out, settings)
    parts_folder = out / "parts"
    parts_folder.mkdir(exist_ok=True)
    planned = {
        split: parts_of(split, settings.minutes * _SHARES[split])
        for split in SPLITS
        if engines_of(split, settings.without) and not (out / split).is_dir()
    }
    # The small splits first: with them done, `parts` can be judged before all of it is there.
    every = [part for split in reversed(SPLITS) for part in planned.get(split, ())]
    missing = [part for part in every if not (parts_folder / part.name).is_dir()]
    log.info("%d of %d parts to make", len(missing), len(every))
    _make(parts_folder, missing, settings, processes)
    for split, parts in planned.items():
        note["left_out"] += join_parts(parts_folder, parts, out / split)
        _write_note(out, note)
    shutil.rmtree(parts_folder)
    note["seconds"] = spoken_seconds(out)
    _write_note(out, note)
    log.info("%s: %s", out, json.dumps(note["seconds"]))


def spoken_seconds(out: Path) -> dict[str, dict[str, int]]:
    """Seconds of every split by "engine language", for the corpus's note."""
    table: dict[str, dict[str, int]] = {}
    for split in SPLITS:
        if not (out / split).is_dir():
            continue
        frames: dict[str, int] = {}
        for clip in json.loads((out / split / "clips.json").read_text(encoding="utf-8")):
            who = f"{clip['engine']} {clip['language']}" if clip["kind"] == "speech" else "rest"
            frames[who] = frames.get(who, 0) + clip["frames"]
        table[split] = {who: frames[who] // FPS for who in sorted(frames)}
    return table


def _make(folder: Path, parts: Sequence[Part], settings: Settings, processes: int) -> None:
    if processes == 1:
        for done, part in enumerate(parts, 1):
            write_part(folder, part, settings)
            log.info("%s (%d of %d)", part.name, done, len(parts))
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, mp_context=context) as pool:
        running = {pool.submit(write_part, folder, part, settings): part for part in parts}
        for done, future in enumerate(as_completed(running), 1):
            future.result()
            log.info("%s (%d of %d)", running[future].name, done, len(parts))


def _claim(out: Path, settings: Settings) -> dict[str, Any]:
    """The note of the corpus in `out`, begun where there is none."""
    out.mkdir(parents=True, exist_ok=True)
    path = out / "corpus.json"
    wanted = json.loads(json.dumps(dataclasses.asdict(settings)))
    if not path.is_file():
        note: dict[str, Any] = {"settings": wanted, "left_out": []}
        _write_note(out, note)
        return note
    note = json.loads(path.read_text(encoding="utf-8"))
    if note["settings"] != wanted:
        raise ValueError(f"expected {wanted} in {path}, found {note['settings']}")
    return note


def _write_note(out: Path, note: dict[str, Any]) -> None:
    partial = out / "corpus.json.partial"
    partial.write_text(json.dumps(note, indent=1) + "\n", encoding="utf-8")
    partial.replace(out / "corpus.json")


def _write_rows(path: Path, rows: Collection[Any]) -> None:
    path.write_text(json.dumps(rows, indent=0) + "\n", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description="Write synthetic speech with mouth tracks.")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=120.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument(
        "--without", nargs="*", choices=ENGINES, default=[], help="engines to leave out"
    )
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    settings = Settings(arguments.minutes, arguments.seed, tuple(arguments.without))
    write_corpus(arguments.out, settings, arguments.processes)


if __name__ == "__main__":
    main()
