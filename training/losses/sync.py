"""The sync loss: generated mouths should fit their sound in the eyes of StableSyncNet."""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from engine.models.syncnet import StableSyncNet, load_syncnet

SYNC_FRAMES = 16
SYNC_PIXELS = 256
LEAST_COSINE = 1e-6  # whose logarithm's slope half precision can still carry


class SyncLoss(nn.Module):
    """Minus the logarithm of the cosine between a mouth's and its sound's embedding."""

    def __init__(self, network: StableSyncNet) -> None:
        super().__init__()
        self.network = network

    @classmethod
    def load(cls, path: Path, device: torch.device | str, dtype: torch.dtype) -> SyncLoss:
        """The loss of the published file, frozen.

        Raises:
            ModelError: the file cannot be read, or its keys differ (StateDictMismatch).
        """
        return cls(load_syncnet(path, device=device, dtype=dtype))

    def forward(self, made: Tensor, mel: Tensor) -> Tensor:
        """[] of clips [b, 16, 3, R, R] in [-1, 1] and their mel [b, 1, 80, 52]."""
        return -self.cosine(made, mel).clamp(LEAST_COSINE, 1.0).log().mean()

    def cosine(self, made: Tensor, mel: Tensor) -> Tensor:
        """[b] 0 to 1: how well mouths and sound fit."""
        batch, frames, channels, height, _ = made.shape
        pictures = made.flatten(0, 1)
        if height != SYNC_PIXELS:
            pictures = F.interpolate(pictures, (SYNC_PIXELS, SYNC_PIXELS), mode="bicubic")
        lower = pictures[:, :, pictures.shape[2] // 2 :]
        lower = lower.reshape(batch, frames * channels, *lower.shape[2:])
        dtype = self.network.visual_encoder.conv_in.weight.dtype
        visual, audio = self.network(lower.to(dtype), mel.to(dtype))
        return F.cosine_similarity(visual.float(), audio.float())
