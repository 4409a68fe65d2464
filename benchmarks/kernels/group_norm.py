"""GroupNorm over the frames of a window with its SiLU, giving the moments that are carried.

`reference` is what `engine.models.resnet.FrameGroupNorm` and the SiLU behind it do, as a function.
`fused` reads the input twice and writes once: one Triton kernel takes every frame's moments, one
pools them with the carried ones, norms and activates.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from engine.models.resnet import NORM_EPS, FrameGroupNorm


def reference(
    x: Tensor, weight: Tensor, bias: Tensor, ring: Tensor, present: Tensor
) -> tuple[Tensor, Tensor]:
    """The normed and activated frames, and their own moments.

    Args:
        x: [b * h, channels, s, s] the new frames.
        weight, bias: [channels].
        ring: float32 [b, 2, c, groups] mean and variance of the context; c may be 0.
        present: [b, c + h] 1.0 where the window has a frame.

    Returns:
        [b * h, channels, s, s] and float32 [b, 2, h, groups]
    """
    sessions, _, context, groups = ring.shape
    frames = present.shape[1] - context
    exact = x.double() if x.dtype == torch.float64 else x.float()
    var, mean = torch.var_mean(exact.reshape(len(x), groups, -1), dim=2, correction=0)
    own = torch.stack([mean, var], dim=1).reshape(sessions, frames, 2, groups).transpose(1, 2)
    seen = torch.cat([ring.to(own.dtype), own], dim=2)
    mean, var = FrameGroupNorm._pool(seen, present)
    scale = torch.rsqrt(var + NORM_EPS)
    shape = (sessions, frames, groups, 1)
    normed = (exact.reshape(*shape[:3], -1) - mean[:, None, :, None]) * scale[:, None, :, None]
    normed = normed.to(x.dtype).reshape(x.shape)
    return F.silu(normed * weight[:, None, None] + bias[:, None, None]), own


def fused(
    x: Tensor, weight: Tensor, bias: Tensor, ring: Tensor, present: Tensor
) -> tuple[Tensor, Tensor]:
    """What `reference` gives, by Triton; the arguments are the same, x contiguous.

    Raises:
        ImportError: Triton is not installed.
    """
    from benchmarks.kernels.group_norm_triton import launch

    return launch(x, weight, bias, ring.float(), present.float(), NORM_EPS)
