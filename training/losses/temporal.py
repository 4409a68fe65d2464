"""TREPA: generated clips should lie where real ones do in the features of a video network.

LatentSync (2412.09262), temporal representation alignment.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from training.losses.videomae import VideoMae


class TemporalLoss(nn.Module):
    """The mean squared difference of the unit vectors of two clips."""

    def __init__(self, encoder: VideoMae) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, made: Tensor, truth: Tensor) -> Tensor:
        """[] of clips [b, f, 3, h, w] in [-1, 1]; no gradient reaches `truth`."""
        with torch.no_grad():
            wanted = self._vectors(truth)
        return F.mse_loss(self._vectors(made), wanted)

    def _vectors(self, clips: Tensor) -> Tensor:
        batch, frames = clips.shape[:2]
        spec = self.encoder.spec
        size = (spec.size, spec.size)
        pictures = F.interpolate(clips.flatten(0, 1).float(), size, mode="bilinear")
        # [0, 1], without ImageNet's mean and deviation: as LatentSync was trained.
        pictures = (pictures / 2 + 0.5).clamp(0, 1)
        video = pictures.reshape(batch, frames, *pictures.shape[1:]).transpose(1, 2)
        weight = self.encoder.fc_norm.weight
        return F.normalize(self.encoder(video.to(weight.dtype)).float(), dim=1)
