"""The source warp as training sees it: differentiable, at the crop's own resolution.

`engine.face.warp` shows the same on pictures of any size. There the semantics are written down.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from engine.spec import COVER_CELLS


@dataclass(frozen=True, slots=True)
class SourceWarp:
    """What the network says about its source.

    Attributes:
        motion: [n, 2, s, s] dx, dy in latent cells: where in the source a pixel comes from.
        cover: [n, 1, 4s, 4s] logits of what the decoded picture covers.
    """

    motion: Tensor
    cover: Tensor

    @classmethod
    def of(cls, channels: Tensor) -> SourceWarp:
        """The warp in the network's last `WARP_CHANNELS` channels [n, 18, s, s]."""
        return cls(channels[:, :2], F.pixel_shuffle(channels[:, 2:], COVER_CELLS))


def moved(source: Tensor, motion: Tensor) -> Tensor:
    """[n, 3, R, R]: `source` of that shape, each pixel taken from where `motion` points."""
    size, cells = source.shape[-1], motion.shape[-1]
    offset = F.interpolate(motion, size=(size, size), mode="bilinear") * (size / cells)
    line = torch.arange(size, dtype=offset.dtype)
    x, y = line + offset[:, 0], line[:, None] + offset[:, 1]
    grid = (torch.stack([x, y], dim=3) * 2 + 1) / size - 1
    return F.grid_sample(source, grid, padding_mode="border", align_corners=False)


def covered(warp: SourceWarp, decoded: Tensor, source: Tensor) -> Tensor:
    """The shown picture [n, 3, R, R]: the decoded one where it covers, the moved source elsewhere.

    Args:
        decoded, source: [n, 3, R, R].
    """
    size = source.shape[-1]
    cover = F.interpolate(torch.sigmoid(warp.cover), size=(size, size), mode="bilinear")
    still = moved(source, warp.motion)
    return still + cover * (decoded - still)
