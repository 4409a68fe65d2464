"""Which files the losses need, where they are looked for, and where one gets them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from engine.checkpoints import models_dir
from engine.errors import ModelError
from engine.published import PUBLISHED_SYNCNETS
from training.finetune.configs import LossWeights
from training.losses.perceptual import PerceptualLoss
from training.losses.sync import SyncLoss
from training.losses.temporal import TemporalLoss
from training.losses.videomae import VideoMae, VideoMaeSpec


@dataclass(frozen=True, slots=True)
class LossFile:
    """A published file.

    Attributes:
        loss: whose network it holds, as `LossWeights` names it.
        path: inside the folder of loss files.
        source: how one gets it; `{folder}` stands for that folder.
        fetched: folders among the models in which `lipwire fetch` may have left it.
    """

    loss: str
    path: str
    source: str
    fetched: tuple[str, ...] = ()

    def find(self, folder: Path) -> Path | None:
        """Where the file is: in the folder, or fetched; None where it is not."""
        places = [folder / self.path, *(models_dir() / name / self.path for name in self.fetched)]
        return next((place for place in places if place.is_file()), None)


_HUB = "hf download ByteDance/LatentSync-1.5 {path} --local-dir {folder}"
SYNC = LossFile(
    "sync", "stable_syncnet.pt", f"lipwire fetch {min(PUBLISHED_SYNCNETS)}", (*PUBLISHED_SYNCNETS,)
)
TEMPORAL = LossFile("temporal", "auxiliary/vit_g_hybrid_pt_1200e_ssv2_ft.pth", _HUB)
VGG = LossFile("perceptual", "auxiliary/vgg16-397923af.pth", _HUB)
LPIPS = LossFile(
    "perceptual",
    "lpips/weights/v0.1/vgg.pth",
    "pip download lpips==0.1.4 --no-deps && unzip lpips-0.1.4-py3-none-any.whl {path} -d {folder}",
)
LOSS_FILES = (SYNC, TEMPORAL, VGG, LPIPS)


@dataclass(frozen=True, slots=True)
class PixelLosses:
    """The losses that are on; None: off, its weight is 0."""

    perceptual: PerceptualLoss | None = None
    sync: SyncLoss | None = None
    temporal: TemporalLoss | None = None


def default_folder() -> Path:
    """Where the losses' files are looked for, unless told otherwise: beside fetched models."""
    return models_dir() / "latentsync-losses"


def load_losses(
    folder: Path, weights: LossWeights, device: torch.device, dtype: torch.dtype
) -> PixelLosses:
    """The losses whose weight is above 0.

    Args:
        dtype: of SyncNet and VideoMAE; LPIPS stays in f32.

    Raises:
        ModelError: files are missing, all of them named, or do not fit (StateDictMismatch).
    """
    needed = [file for file in LOSS_FILES if getattr(weights, file.loss) > 0]
    found = {file: place for file in needed if (place := file.find(folder)) is not None}
    if len(found) < len(needed):
        raise ModelError(_missing([file for file in needed if file not in found], folder))
    return PixelLosses(
        perceptual=PerceptualLoss.load(found[VGG], found[LPIPS], device)
        if weights.perceptual
        else None,
        sync=SyncLoss.load(found[SYNC], device, dtype) if weights.sync else None,
        temporal=TemporalLoss(VideoMae.load(found[TEMPORAL], device, dtype, VideoMaeSpec()))
        if weights.temporal
        else None,
    )


def _missing(files: Sequence[LossFile], folder: Path) -> str:
    lines = [
        f"  {file.path} for the loss {file.loss!r}: "
        + file.source.format(path=file.path, folder=folder)
        for file in files
    ]
    names = " ".join(dict.fromkeys(file.loss for file in files))
    return (
        f"expected in {folder}, and did not find\n"
        + "\n".join(lines)
        + f"\nAnother folder: --weights FOLDER. To train without: --without {names}"
    )
