"""The judge: a small network that reads mouth parameters off a face crop.

    python -m training.regressor --minutes 8

Trained on rendered truth alone and never shown a generated picture, it scores
generated ones; its own error on held-out faces is kept beside its weights and
reported with every score.
"""

from __future__ import annotations

import argparse
import json
import logging
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from engine.media import F32, U8
from training.dataset import TRAIN_FOLDER, CropStore, colour_jitter, to_tensor
from training.mouth import MOUTH_PARAMETERS
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


def train(store: CropStore, minutes: float, batch: int, rate: float, path: Path) -> None:
    """Trains for `minutes`; writes the weights and, beside them, the judge's own scores."""
    torch.manual_seed(7)
    regressor = MouthRegressor()
    regressor.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = torch.optim.AdamW(regressor.parameters(), lr=rate, weight_decay=1e-3)
    start, step, done, mean = time.monotonic(), 0, 0.0, 0.0
    while done < 1.0:
        done = min((time.monotonic() - start) / (60 * minutes), 1.0)
        for group in optimizer.param_groups:
            group["lr"] = rate * min(1.0, (step + 1) / 100) * (0.02 + 0.98 * (1 - done))
        crops, mouths = store.sample_labelled(batch, split="train", seed=500_000 + step)
        generator = torch.Generator().manual_seed(step)
        image = colour_jitter(to_tensor(crops), generator)
        with torch.autocast("cpu", torch.bfloat16):
            found = regressor(image.contiguous(memory_format=torch.channels_last))
        loss = F.smooth_l1_loss(found.float(), torch.from_numpy(mouths), beta=0.1)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(regressor.parameters(), 1.0)
        optimizer.step()
        step += 1
        mean += (float(loss.detach()) - mean) * max(0.02, 1 / step)
        if step % 200 == 0 or done >= 1.0:
            log.info("step %d loss %.4f", step, mean)
    regressor.eval()
    save_file({k: v.contiguous() for k, v in regressor.state_dict().items()}, path)
    scores = report(regressor, store)
    path.with_suffix(".json").write_text(json.dumps(scores, indent=2) + "\n")
    log.info("held out: %s", scores)


def load(path: Path = PATH) -> MouthRegressor:
    """The judge that `train` wrote."""
    regressor = MouthRegressor()
    regressor.load_state_dict(load_file(path))
    return regressor.eval()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=8.0)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--rate", type=float, default=2e-3)
    parser.add_argument("--out", type=Path, default=PATH)
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    train(CropStore.open(), args.minutes, args.batch, args.rate, args.out)


if __name__ == "__main__":
    main()
