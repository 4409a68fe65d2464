"""How far the sync expert can be trusted: planted offsets and a ROC on held-out faces.

    python -m training.sync_accuracy --corpus .scratch/corpus --expert .scratch/train/sync

Every held-out clip is given to the expert 21 times, its sound moved by -10 .. 10 frames, and
an offset is looked for within 15 frames of where the sound then stands. Stretches in which the
mouth hardly moves have no offset to find: they are counted and left out.

Writes `sync_accuracy.json` beside the weights.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np
import torch

from engine.media import F32
from training.dataset import CORPUS_FOLDER, TRAIN_FOLDER, Clip, CropStore, SpeechStore
from training.mouth import OPENING
from training.sync_inputs import ROWS_PER_FRAME, SOUND, mouth_views, rows_of
from training.sync_network import ACCURACY_FILE, SyncExpert, load_expert
from training.sync_pairs import MOVES
from training.sync_score import F64, REACH, distances, sync_score

log = logging.getLogger(__name__)

PLANTED: Final = 10  # frames either way
SPANS: Final = (16, 24, 32)  # frames that the expert gets to see, beside whole clips
SOUND_AROUND: Final = REACH + PLANTED  # frames of sound on both sides of a clip
OUT_OF_SYNC: Final = 3  # frames from which moved sound counts as out of sync
ROC_POINTS: Final = 21


@dataclass(frozen=True, slots=True)
class Stretch:
    """Consecutive windows of a held-out clip, and all distances that its tests need.

    Attributes:
        table: [n, 51] distances at offsets of 25 frames either way.
        astray: [n, 31] distances to what another clip says, at offsets of 15 frames either way.
        opening: [n + T - 1] of the mouth.
    """

    table: F64
    astray: F64
    opening: F32

    @property
    def moves(self) -> bool:
        """Whether the mouth does."""
        return bool(self.opening.std() >= MOVES)

    def parts(self, windows: int) -> Iterator[Stretch]:
        """The stretch cut into shorter ones, the rest left out."""
        beyond = len(self.opening) - len(self.table)
        for first in range(0, len(self.table) - windows + 1, windows):
            rows = slice(first, first + windows)
            opening = self.opening[first : first + windows + beyond]
            yield Stretch(self.table[rows], self.astray[rows], opening)


def measure(
    expert: SyncExpert, store: CropStore, speech: SpeechStore, most: int = 1000
) -> dict[str, Any]:
    """Everything by split of the speech and over all, ready for JSON.

    Args:
        most: clips to look at, spread over the corpus.

    Raises:
        ValueError: no held-out clip of a window's length speaks.
    """
    clips = [c for c in store.clips("test") if c.speech and c.frames >= expert.frames]
    if not clips:
        raise ValueError(f"expected held-out clips of {expert.frames} frames with speech")
    clips = clips[:: -(-len(clips) // most)]
    sounds = [_heard(expert, speech, clip) for clip in clips]
    groups: dict[str, list[Stretch]] = {}
    for index, clip in enumerate(clips):
        seen = expert.see(mouth_views(store.crops(clip)))
        table = distances(seen, *sounds[index], SOUND_AROUND)
        astray = distances(seen, *sounds[another(clips, index)])
        stretch = Stretch(table, astray, store.mouth(clip)[:, OPENING])
        groups.setdefault(_split(clip), []).append(stretch)
    return {
        "frames_a_window": expert.frames,
        "planted_frames": PLANTED,
        "searched_frames": REACH,
        "all": summary([item for own in groups.values() for item in own], expert.frames),
        "splits": {split: summary(groups[split], expert.frames) for split in sorted(groups)},
    }


def _heard(expert: SyncExpert, speech: SpeechStore, clip: Clip) -> tuple[F32, int]:
    """Embeddings of a clip's sound and of what is around it, and where in them the clip begins."""
    rows = rows_of(speech.power(clip.speech))
    first = max(clip.start_frame - SOUND_AROUND, 0)
    stop = clip.start_frame + clip.frames + SOUND_AROUND
    heard = expert.hear(rows[first * ROWS_PER_FRAME : stop * ROWS_PER_FRAME])
    return heard, clip.start_frame - first


def another(clips: Sequence[Clip], index: int) -> int:
    """The next clip that says something else, of the same split where there is one."""
    order = [(index + step) % len(clips) for step in range(1, len(clips))]
    others = [place for place in order if clips[place].speech != clips[index].speech]
    same = [place for place in others if _split(clips[place]) == _split(clips[index])]
    return (same or others or [index])[0]


def summary(stretches: Sequence[Stretch], frames: int) -> dict[str, Any]:
    """Offsets found by length of what is seen, and how well in and out of sync part."""
    by_span = {
        str(span): offsets([p for s in stretches for p in s.parts(span - frames + 1)])
        for span in SPANS
        if span >= frames
    }
    return {
        "clips": len(stretches),
        "offsets": {"whole": offsets(stretches), **by_span},
        "roc": {
            "clip": separation(stretches),
            "window": separation([part for s in stretches for part in s.parts(1)]),
        },
    }


def offsets(stretches: Sequence[Stretch]) -> dict[str, Any]:
    """Of planted offsets, the shares found exactly and nearly, and the mean error in frames."""
    moving = [item for item in stretches if item.moves]
    errors = []
    for item in moving:
        for planted in range(-PLANTED, PLANTED + 1):
            middle = item.table.shape[1] // 2 + planted
            score = sync_score([item.table[:, middle - REACH : middle + REACH + 1]])
            if score is not None:
                errors.append(abs(score.offset_frames - planted))
    found = np.asarray(errors, np.float64)
    result: dict[str, Any] = {"stretches": len(moving), "still": len(stretches) - len(moving)}
    if len(found):
        result |= {
            "exact": round(float((found == 0).mean()), 4),
            "within_1": round(float((found <= 1).mean()), 4),
            "within_2": round(float((found <= 2).mean()), 4),
            "mean_error_frames": round(float(found.mean()), 3),
        }
    return result


def separation(stretches: Sequence[Stretch]) -> dict[str, Any]:
    """ROCs of sound in place against moved sound and against what others say.

    `moved` and `other_sound` are by the distance as it is, `confidence` is by that, against
    what others say, wherever it fits best.
    """
    moving = [item for item in stretches if item.moves]
    own, moved, astray = [], [], []
    sure, unsure = [], []
    for item in moving:
        middle = item.table.shape[1] // 2
        curve = [_mean(item.table[:, middle + k]) for k in range(-PLANTED, PLANTED + 1)]
        own.append(curve[PLANTED])
        moved += [v for k, v in enumerate(curve) if abs(k - PLANTED) >= OUT_OF_SYNC]
        astray.append(_mean(item.astray[:, REACH]))
        sure.append(_doubt(item.table[:, middle - REACH : middle + REACH + 1]))
        unsure.append(_doubt(item.astray))
    if not moving:
        return {}
    return {
        "moved": roc(own, moved),
        "other_sound": roc(own, astray),
        "confidence": roc(sure, unsure),
    }


def roc(inside: Sequence[float], outside: Sequence[float]) -> dict[str, Any]:
    """Area under the curve, equal error rate and the limit that gives it, points of the curve.

    Args:
        inside: of what is in sync, to be told as the smaller ones.
        outside: of what is not; nan is left out of both.
    """
    good, bad = (np.sort([v for v in values if v == v]) for values in (inside, outside))
    if not (len(good) and len(bad)):
        return {}
    places = np.searchsorted(bad, good, "left"), np.searchsorted(bad, good, "right")
    area = 1.0 - float(np.mean([places[0], places[1]])) / len(bad)
    limits = np.unique(np.concatenate([good, bad]))
    taken = np.searchsorted(good, limits, "right") / len(good)
    wrong = np.searchsorted(bad, limits, "right") / len(bad)
    equal = int(np.argmin(np.abs(1.0 - taken - wrong)))
    grid = np.linspace(0.0, 1.0, ROC_POINTS)
    reached = [float(taken[wrong <= rate].max(initial=0.0)) for rate in grid]
    return {
        "in_sync": len(good),
        "out_of_sync": len(bad),
        "area": round(area, 4),
        "equal_error": round(float((1.0 - taken[equal] + wrong[equal]) / 2), 4),
        "equal_error_limit": round(float(limits[equal]), 4),
        "false_accept": [round(float(rate), 2) for rate in grid],
        "accept": [round(value, 4) for value in reached],
    }


def _mean(values: F64) -> float:
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else float("nan")


def _doubt(table: F64) -> float:
    """The negative confidence."""
    score = sync_score([table])
    return float("nan") if score is None else -score.confidence


def _split(clip: Clip) -> str:
    return clip.speech.split("/")[0]


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures and writes the report; the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m training.sync_accuracy",
        description="Measure the sync expert on held-out faces with planted offsets.",
    )
    parser.add_argument("--corpus", type=Path, default=CORPUS_FOLDER, help="speech/ and faces/")
    parser.add_argument("--expert", type=Path, default=TRAIN_FOLDER / "sync", help="its folder")
    parser.add_argument("--most", type=int, default=1000, help="clips to look at (1000)")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    store = CropStore.open(options.corpus / "faces")
    speech = SpeechStore(SOUND, options.corpus / "speech")
    result = measure(load_expert(options.expert), store, speech, options.most)
    for split, own in (("all", result["all"]), *result["splits"].items()):
        whole, moved = own["offsets"]["whole"], own["roc"]["clip"].get("moved", {})
        log.info(
            "%-10s %4d clips: exact %.3f, within 1 %.3f, area %.3f",
            split, own["clips"], whole.get("exact", 0), whole.get("within_1", 0),
            moved.get("area", 0),
        )  # fmt: skip
    text = json.dumps(result)
    (options.expert / ACCURACY_FILE).write_text(text + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
