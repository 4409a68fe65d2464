"""A small network that reads mouth parameters off a face crop: the judge, and a second reader.

    python -m training.regressor                                             # the judge
    python -m training.regressor --seed 8 --steps 2000 --out .scratch/train/reader.safetensors

Trained on rendered truth alone and never shown a generated picture, the judge scores
generated ones; its own error on held-out faces is kept beside its weights and
reported with every score. The second reader serves a loss (`training.painting`), so that the
judge never sees what it taught.
"""

from __future__ import annotations

import argparse
import json
import logging
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from engine.media import F32, U8
from training.dataset import (
    CORPUS_FOLDER,
    TRAIN_FOLDER,
    CropStore,
    colour_jitter,
    to_tensor,
)
from training.mouth import MOUTH_PARAMETERS
from training.optimise import Recipe, Run, step_generator
from training.speech.scores import Scores, mouth_scores

log = logging.getLogger(__name__)

PATH = TRAIN_FOLDER / "regressor.safetensors"


class Block(nn.Module):
    """Two normed convolutions beside the identity."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.GroupNorm(8, width), nn.GroupNorm(8, width)
        self.conv1 = nn.Conv2d(width, width, 3, padding=1)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv1(F.relu(self.norm1(x)))
        return x + self.conv2(F.relu(self.norm2(h)))  # type: ignore[no-any-return]


class MouthRegressor(nn.Module):
    """[n, 3, 128, 128] in [-1, 1] -> [n, 7] mouth parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(3, 32, 4, stride=4),
            Block(32),
            nn.Conv2d(32, 64, 3, stride=2, padding=1),
            Block(64),
            nn.Conv2d(64, 96, 3, stride=2, padding=1),
            Block(96),
            nn.Conv2d(96, 24, 1),
            nn.Flatten(),
            nn.ReLU(),
            nn.Linear(24 * 64, 128),
            nn.ReLU(),
            nn.Linear(128, len(MOUTH_PARAMETERS)),
        )

    def forward(self, image: Tensor) -> Tensor:
        parameters: Tensor = self.body(image)
        return parameters


@torch.no_grad()
def read_mouths(regressor: MouthRegressor, crops: U8, batch: int = 64) -> F32:
    """float32 [n, 7] mouth parameters of crops [n, 128, 128, 3]."""
    parts = []
    for first in range(0, len(crops), batch):
        with torch.autocast("cpu", torch.bfloat16):
            parts.append(regressor(to_tensor(crops[first : first + batch])).float())
    return torch.cat(parts).numpy()


def report(regressor: MouthRegressor, store: CropStore, clips: int = 24) -> Scores:
    """The judge's own scores on held-out faces, against rendered truth."""
    chosen = store.clips(split="test")[:clips]
    truth = np.concatenate([store.mouth(clip) for clip in chosen])
    found = np.concatenate([read_mouths(regressor, store.crops(clip)) for clip in chosen])
    ends = np.cumsum([clip.frames for clip in chosen])
    spans = [(int(end) - clip.frames, clip.frames) for end, clip in zip(ends, chosen, strict=True)]
    scores = mouth_scores(found, truth, spans)
    error = np.abs(found - truth).mean(axis=0)
    return scores | {
        f"{name}_error": round(float(value), 4)
        for name, value in zip(MOUTH_PARAMETERS, error, strict=True)
    }


def train(store: CropStore, recipe: Recipe, path: Path) -> None:
    """Trains, resumes; writes the weights and, beside them, the reader's own scores."""
    torch.manual_seed(recipe.seed)
    regressor = MouthRegressor()
    regressor.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    groups = [{"params": list(regressor.parameters()), "scale": 1.0}]
    run = Run(regressor, recipe, groups, path.with_suffix(".checkpoint.pt"))
    run.resume()

    def make(number: int) -> tuple[Tensor, Tensor]:
        crops, mouths = store.sample_labelled(recipe.batch, "train", 500_000 + number)
        image = colour_jitter(to_tensor(crops), step_generator(recipe, number))
        return image.contiguous(memory_format=torch.channels_last), torch.from_numpy(mouths)

    def publish() -> None:
        averaged = {key: value.contiguous() for key, value in run.average.values.items()}
        save_file(averaged, path)

    for image, mouths in run.steps(make, publish):
        with torch.autocast("cpu", torch.bfloat16):
            found = regressor(image)
        loss = F.smooth_l1_loss(found.float(), mouths, beta=0.1)
        run.learn(loss, {"loss": loss})
    scores = report(load(path), store)
    path.with_suffix(".json").write_text(json.dumps(scores, indent=2) + "\n")
    log.info("held out: %s", scores)


def load(path: Path = PATH) -> MouthRegressor:
    """The judge that `train` wrote."""
    regressor = MouthRegressor()
    regressor.load_state_dict(load_file(path))
    return regressor.eval()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--rate", type=float, default=2e-3)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--corpus", type=Path, default=CORPUS_FOLDER)
    parser.add_argument("--out", type=Path, default=PATH)
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    recipe = Recipe(args.steps, args.batch, args.rate, average=0.99, fall=1.0, seed=args.seed)
    train(CropStore.open(args.corpus / "faces"), recipe, args.out)


if __name__ == "__main__":
    main()
