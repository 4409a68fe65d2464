"""Fine-tuning in miniature: a model, clips and losses' networks that train in seconds.

Run as a program it says every step on a line of its output, and takes the next one when a line
comes in: python -m tests.toy_finetune FOLDER STEPS
"""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch

from engine.media import FPS, SAMPLE_RATE_HZ
from engine.models.syncnet import BranchSpec, StableSyncNet
from tests.published_models import TINY_PUBLISHED
from tests.tiny_models import randomize, write_random_model
from tests.toy_takes import draw
from training.finetune.clips import LISTING
from training.finetune.configs import CONFIGS, LossWeights
from training.finetune.options import RunOptions
from training.finetune.run import Run
from training.finetune.weights import PixelLosses
from training.losses.perceptual import PerceptualLoss, StageWeights, Vgg16
from training.losses.sync import SyncLoss
from training.losses.temporal import TemporalLoss
from training.losses.videomae import VideoMae, VideoMaeSpec
from training.prepare.clip_file import write_clip

STAGES = ((4, 1), (6, 1))
TINY_VIDEO = VideoMaeSpec(size=28, frames=4, width=16, depth=2, heads=2, inner=32)
RATE = 2e-3  # small networks learn in large steps
FRAMES = 4

TOY_MODEL = dataclasses.replace(TINY_PUBLISHED, timesteps=(699,), window_frames=8, hop_frames=4)
TOY = dataclasses.replace(
    CONFIGS["stage2_efficient"],
    resolution=32,
    frames=FRAMES,
    # SyncNet reads 16 frames of 256 px: too much for every step of a test.
    losses=LossWeights(sync=0.0),
)


def write_toy_clips(folder: Path, count: int = 3, frames: int = 3 * FRAMES + 2) -> None:
    """A prepared folder: clips whose mouths follow their sound, the last one held out."""
    (folder / "clips").mkdir(parents=True)
    lines = []
    for index in range(count):
        dice = np.random.default_rng(index)
        opening = dice.uniform(0.0, 1.0, frames).astype(np.float32)
        loud = np.repeat(opening, SAMPLE_RATE_HZ // FPS)
        tone = np.sin(2 * np.pi * 220 * np.arange(len(loud)) / SAMPLE_RATE_HZ)
        file = f"clips/{index:06d}.mp4"
        write_clip(folder / file, draw(opening, 32), (0.3 * loud * tone).astype(np.float32))
        split = "validation" if index == count - 1 else "train"
        lines.append({"file": file, "frames": frames, "offset_frames": 0, "split": split})
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (folder / LISTING).write_text(text, encoding="utf-8")


def small_syncnet(visual_channels: int = 48) -> StableSyncNet:
    """StableSyncNet's layers at few channels, with random weights."""
    network = StableSyncNet(
        BranchSpec(1, (*(32,) * 6, 64), ((2, 1), 2, 2, 1, 2, 2, (2, 3)), (False,) * 7),
        BranchSpec(visual_channels, (*(32,) * 7, 64), ((1, 2), *(2,) * 7), (False,) * 7 + (True,)),
    )
    randomize(network, 5)
    return network.eval().requires_grad_(False)


def small_losses(
    folder: Path, weights: LossWeights, device: torch.device, dtype: torch.dtype
) -> PixelLosses:
    """Each loss that is on, with a small random network."""
    vgg, stages, video = Vgg16(STAGES), StageWeights(STAGES), VideoMae(TINY_VIDEO)
    for seed, module in enumerate((vgg, stages, video)):
        randomize(module, seed)
        module.requires_grad_(False)
    for weight in stages.parameters():
        weight.data.abs_()  # as the published ones are
    return PixelLosses(
        PerceptualLoss(vgg, stages) if weights.perceptual else None,
        SyncLoss(small_syncnet().to(dtype)) if weights.sync else None,
        TemporalLoss(video.to(dtype)) if weights.temporal else None,
    )


def write_toy_model(folder: Path) -> None:
    """A base model with temporal modules on both sides, as the published ones have them."""
    write_random_model(folder, TOY_MODEL)


def toy_options(folder: Path, steps: int, **changes: object) -> RunOptions:
    """A run in a folder that holds `model` and `data`."""
    options = RunOptions(
        data=folder / "data",
        out=folder / "out",
        model=folder / "model",
        weights=folder / "weights",
        steps=steps,
        rate=RATE,
        checkpoint_every=2,
        validate_every=0,
        validation_frames=4,
    )
    return dataclasses.replace(options, **changes)  # type: ignore[arg-type]


def say(step: int, figures: Mapping[str, float]) -> None:
    """Says the step, and waits for a line before the next one."""
    sys.stdout.write(f"{step}\n")
    sys.stdout.flush()
    sys.stdin.readline()


if __name__ == "__main__":
    torch.set_num_threads(1)
    Run(TOY, toy_options(Path(sys.argv[1]), int(sys.argv[2])), small_losses).train(say)
