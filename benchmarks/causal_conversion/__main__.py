"""Makes a small bidirectional model causal and measures it before and after.

    python -m benchmarks.causal_conversion --corpus .scratch/corpus --work .scratch/causal

trains the bidirectional model, converts it with `training.causal`, and runs both hop by hop as a
server does: the bidirectional one in pinned windows (what it was trained for, at 16 / h passes a
frame), the same weights causally as they are (the naive switch), and the converted ones. Every
step resumes. JSON and a picture go to benchmarks/results.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import logging
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np
import torch

from benchmarks.causal_conversion.small_model import SmallTraining, Steps, halved
from benchmarks.quality.material import TAKE_FRAMES, Take, make_takes
from benchmarks.quality.plan import passes, round_frames
from benchmarks.quality.runs import Case, run_case
from benchmarks.quality.scores import Judge, score
from benchmarks.quality.torch_runs import TorchOpener
from benchmarks.report import here
from engine.media import U8
from engine.spec import CarryMode, ModelSpec
from training.causal import convert
from training.dataset import BUNDLED_FACE, CORPUS_FOLDER, RESOLUTION, CropStore, SpeechStore
from training.model_crops import corpus_source
from training.optimise import Recipe

log = logging.getLogger(__name__)

NAME: Final = "causal_conversion"
HOPS: Final = (1, 2, 4, 8)
SHEET_FRAMES: Final = 10
# What it is called in the result, which of the two folders, how it is run.
WAYS: Final[tuple[tuple[str, str, CarryMode], ...]] = (
    ("pinned windows", "bidirectional", "pinned"),
    ("naive switch", "bidirectional", "causal"),
    ("converted", "causal", "causal"),
)


def small_takes(spec: ModelSpec, frames: int, reader_frames: int = TAKE_FRAMES) -> list[Take]:
    """The takes of `lipwire bench quality` in the small model's crops."""
    drawn = dataclasses.replace(spec, face=BUNDLED_FACE, resolution=RESOLUTION)
    return [
        dataclasses.replace(
            take,
            source=halved(take.source),
            truth=halved(take.truth),
            reader=halved(take.reader),
        )
        for take in make_takes(drawn, frames, reader_frames)
    ]


def figures(scores: dict[str, Any]) -> dict[str, Any]:
    """Of all scores, those that a conversion is about."""
    synced = ("opening_correlation", "opening_ratio", "lag_frames", "error")
    kept = ("frames", "seam", "hop_line_db", "change_ratio", "mouth_psnr_db")
    return {key: scores[key] for key in kept} | {key: scores["sync"][key] for key in synced}


def measure(
    folders: dict[str, Path], takes: Sequence[Take], hops: Sequence[int]
) -> tuple[list[dict[str, Any]], U8]:
    """A row of figures for every way and hop over two rounds, and a picture of the first take.

    The picture has the rendered truth in its first row, then the ways at the largest hop, over
    consecutive frames.
    """
    openers = {name: TorchOpener(folder) for name, folder in folders.items()}
    spec = openers["bidirectional"].spec
    judge, frames = Judge.of(spec, takes), takes[0].frames
    rows: list[dict[str, Any]] = []
    first = _liveliest(takes[0], hops[-1])
    shown = slice(first, first + SHEET_FRAMES)
    sheet = [np.concatenate(list(takes[0].truth[shown]), axis=1)]
    for way, folder, mode in WAYS:
        for hop in hops:
            case = Case(mode, hop, spec.timesteps)
            run = run_case(openers[folder], case, takes, 2 * frames)
            row = {
                "way": way,
                "hop": hop,
                "passes_a_frame": passes(case, spec.window_frames),
                **figures(score(judge, run.clips, hop, frames if hop > 1 else None)),
            }
            rows.append(row)
            log.info("%s", row)
        sheet.append(np.concatenate(list(run.clips[0][shown]), axis=1))
    return rows, np.concatenate(sheet)


def _liveliest(take: Take, hop: int) -> int:
    """The first frame of a hop from which the mouth opens and shuts most."""
    opening = take.speech.mouth[:, 0]
    firsts = range(2 * hop, take.frames - SHEET_FRAMES, hop)
    return max(firsts, key=lambda first: float(np.ptp(opening[first : first + SHEET_FRAMES])))


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.causal_conversion",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--corpus", type=Path, default=CORPUS_FOLDER)
    parser.add_argument("--work", type=Path, default=Path(".scratch/causal"))
    parser.add_argument("--draw-steps", type=int, default=Steps().draw)
    parser.add_argument("--follow-steps", type=int, default=Steps().follow)
    parser.add_argument("--steps", type=int, default=300, help="of the conversion")
    parser.add_argument("--batch", type=int, default=2, help="clips a step of the conversion")
    parser.add_argument("--rate", type=float, default=1e-3, help="of the conversion")
    parser.add_argument("--hops", type=int, nargs="+", default=list(HOPS))
    parser.add_argument("--seconds", type=float, default=9.0, help="of a take's round, of two")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    given = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    folders = {name: given.work / name for name in ("bidirectional", "causal")}
    steps = Steps(given.draw_steps, given.follow_steps)
    began = time.process_time()
    SmallTraining(given.corpus, folders["bidirectional"]).run(steps)
    trained = time.process_time()
    spec = ModelSpec.read(folders["bidirectional"])
    store = CropStore.open(given.corpus / "faces")
    clips = corpus_source(store, SpeechStore(spec.audio, given.corpus / "speech"), spec)
    recipe = Recipe(given.steps, given.batch, given.rate, average=0.99, warmup=30, seed=4)
    convert(folders["bidirectional"], folders["causal"], clips, recipe)
    converted = time.process_time()
    takes = small_takes(spec, round_frames(given.seconds))
    rows, sheet = measure(folders, takes, given.hops)
    result = {
        "circumstances": here(f"python -m benchmarks.{NAME}", _without_folders(given)).to_dict(),
        "model": json.loads(spec.to_json()),
        "steps": {"draw": steps.draw, "follow": steps.follow, "conversion": given.steps},
        # Of this call alone: less where it resumed.
        "cpu_s": {
            "bidirectional": round(trained - began),
            "conversion": round(converted - trained),
        },
        "rows": rows,
    }
    given.out.mkdir(parents=True, exist_ok=True)
    (given.out / f"{NAME}.json").write_text(json.dumps(result, indent=1) + "\n")
    larger = cv2.resize(sheet[..., ::-1], None, fx=2, fy=2, interpolation=cv2.INTER_NEAREST)
    cv2.imwrite(str(given.out / f"{NAME}.png"), larger, [cv2.IMWRITE_PNG_COMPRESSION, 9])


def _without_folders(given: argparse.Namespace) -> list[str]:
    """The arguments that a result depends on, as they would be typed."""
    return [
        f"--{name.replace('_', '-')} {' '.join(map(str, value)) if name == 'hops' else value}"
        for name, value in vars(given).items()
        if not isinstance(value, Path)
    ]


if __name__ == "__main__":
    main()
