"""Trains the small sync expert on the synthetic corpus.

    python -m training.sync_expert --corpus .scratch/corpus --out .scratch/train/sync --steps 3000

Contrastive (InfoNCE) both ways: of all pictures in the batch, which does this sound belong to,
and of all sounds, which do these pictures belong to (`training.sync_pairs`). The loss curve is
a function of corpus, seed and step: a run that was killed goes on from its last checkpoint
along the same curve.

Two linear layers also read the mouth's parameters off both embeddings while training: that
teaches from the first step what a mouth and a sound have in common. They are not kept.

Writes `sync_expert.safetensors` (halves), `sync_expert.json` (how it was made), `curve.csv`
and a checkpoint into --out.
"""

from __future__ import annotations

import argparse
import dataclasses
import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final, Self

import cv2
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from engine.models.syncnet import StableSyncNet
from training.audio_encoder import mouth_loss
from training.dataset import CORPUS_FOLDER, TRAIN_FOLDER, CropStore, SpeechStore
from training.mouth import MOUTH_PARAMETERS
from training.optimise import Recipe, Run
from training.sync_inputs import SOUND
from training.sync_network import (
    CHANNELS,
    SyncExpert,
    branch_specs,
    save_expert,
    window_choices,
)
from training.sync_pairs import BatchShape, PairBatch, PairSource

log = logging.getLogger(__name__)

TEMPERATURE: Final = 0.07
RATE: Final = 2e-3
AVERAGE: Final = 0.995
READING: Final = 12.0  # weight of the loss of reading mouths
CHECKPOINT_FILE: Final = "checkpoint.pt"
CURVE_FILE: Final = "curve.csv"
_LEFT_OUT: Final = -1e4  # logit of a pair that must not count


def contrastive_loss(seen: Tensor, heard: Tensor, left_out: Tensor) -> Tensor:
    """Mean cross-entropy of finding each sound's pictures and each pictures' sound.

    Args:
        seen: [v, D] of unit length, row i < a belongs to sound i.
        heard: [a, D] of unit length.
        left_out: [v, a] pairs that do not count.
    """
    logits = (seen @ heard.T / TEMPERATURE).masked_fill(left_out, _LEFT_OUT)
    own = torch.arange(len(heard))
    return 0.5 * (F.cross_entropy(logits.T, own) + F.cross_entropy(logits[: len(heard)], own))


class Trainee(nn.Module):
    """The network with what reads mouths off its embeddings."""

    def __init__(self, frames: int) -> None:
        super().__init__()
        self.net = StableSyncNet(*branch_specs(frames))
        self.frames = frames
        self.seen_mouth = nn.Linear(CHANNELS[-1], frames * len(MOUTH_PARAMETERS))
        self.heard_mouth = nn.Linear(CHANNELS[-1], frames * len(MOUTH_PARAMETERS))

    def losses(self, batch: PairBatch) -> dict[str, Tensor]:
        """`pairs`, of telling who belongs together, and `mouth`, of reading mouths."""
        with torch.autocast("cpu", torch.bfloat16):
            plain = self.net.features(batch.frames, batch.mel)
        seen, heard = (item.float() for item in plain)
        own = len(heard)
        reads = [
            head(found).reshape(batch.mouths.shape)
            for head, found in ((self.seen_mouth, seen[:own]), (self.heard_mouth, heard))
        ]
        units = F.normalize(seen, dim=1), F.normalize(heard, dim=1)
        return {
            "pairs": contrastive_loss(*units, batch.left_out),
            "mouth": torch.stack([mouth_loss(read, batch.mouths) for read in reads]).sum(),
        }

    def expert(self, weights: dict[str, Tensor]) -> SyncExpert:
        """The network with averaged weights of this module, ready to run."""
        averaged = Trainee(self.frames)
        averaged.load_state_dict(weights)
        return SyncExpert(averaged.net.eval().requires_grad_(False), self.frames)


def train(source: PairSource, recipe: Recipe, out: Path, start: Path | None = None) -> SyncExpert:
    """The averaged expert after all steps, from the checkpoint in `out` where there is one.

    Args:
        start: the folder of another run whose averaged weights a new run begins with.
    """
    out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(recipe.seed)
    trainee = Trainee(source.shape.frames)
    if start is not None:
        trainee.load_state_dict(torch.load(start / CHECKPOINT_FILE, weights_only=True)["average"])
    groups = [{"params": list(trainee.parameters()), "scale": 1.0}]
    run = Run(trainee, recipe, groups, out / CHECKPOINT_FILE)
    run.resume()

    def publish() -> None:
        note = {"steps": run.step, "clips": len(source), "recipe": dataclasses.asdict(recipe)}
        save_expert(trainee.expert(run.average.values), out, note)

    with LossCurve(out / CURVE_FILE, run.step) as curve:
        for batch in run.steps(lambda step: source.batch(step, recipe.seed), publish):
            losses = trainee.losses(batch)
            total = losses["pairs"] + READING * losses["mouth"]
            curve.add(run.step, float(total.detach()))
            run.learn(total, losses)
    return trainee.expert(run.average.values)


class LossCurve:
    """The loss of every step, in a file that a resumed run goes on with."""

    def __init__(self, path: Path, steps: int) -> None:
        """Keeps the first `steps` rows of what is there: later ones were not checkpointed."""
        kept = path.read_text(encoding="ascii").splitlines()[1 : steps + 1] if steps else []
        self._file = path.open("w", encoding="ascii", buffering=1)
        self._file.writelines(f"{line}\n" for line in ("step,loss", *kept))

    def add(self, step: int, loss: float) -> None:
        """Writes a line at once: a checkpoint goes on with all before it."""
        self._file.write(f"{step},{loss:.6f}\n")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()


def main(arguments: Sequence[str] | None = None) -> int:
    """Trains and writes the expert; the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m training.sync_expert",
        description="Train the sync expert.",
        epilog="then: python -m training.sync_accuracy --expert .scratch/train/sync",
    )
    parser.add_argument("--corpus", type=Path, default=CORPUS_FOLDER, help="speech/ and faces/")
    parser.add_argument("--out", type=Path, default=TRAIN_FOLDER / "sync")
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--frames", type=int, default=16, choices=window_choices())
    parser.add_argument("--clips", type=int, default=8, help="faces of a batch (8)")
    parser.add_argument("--windows", type=int, default=6, help="of each of them (6)")
    parser.add_argument("--start", type=Path, help="folder of a run to begin with the weights of")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    shape = BatchShape(options.clips, options.windows, options.frames)
    store = CropStore.open(options.corpus / "faces")
    source = PairSource(store, SpeechStore(SOUND, options.corpus / "speech"), shape)
    recipe = Recipe(
        options.steps, shape.clips * shape.windows, RATE, AVERAGE, fall=0.5, seed=options.seed
    )
    train(source, recipe, options.out, options.start)
    return 0


if __name__ == "__main__":
    sys.exit(main())
