"""Residual blocks, resampling and the group norms that pool over frames.

Pictures are folded as [b * f, c, h, w]: convolutions work frame by frame.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from engine.models.frame_windows import FrameWindows

NORM_EPS = 1e-5


class FrameGroupNorm(nn.GroupNorm):
    """GroupNorm with statistics of one frame, or pooled over the frame's window.

    Upstream norms 5-D tensors, which pools over all frames of the window: a
    hidden temporal layer. Here every frame gives its moments and a window
    combines them, so that the moments of earlier frames can be carried.
    """

    def __init__(self, groups: int, channels: int, *, per_frame: bool) -> None:
        super().__init__(groups, channels, eps=NORM_EPS)
        self.per_frame = per_frame

    def forward(self, x: Tensor, windows: FrameWindows) -> Tensor:  # type: ignore[override]
        if self.per_frame:
            return super().forward(x)
        _, channels, height, width = x.shape
        grouped = x.reshape(-1, self.num_groups, channels // self.num_groups * height * width)
        exact = grouped if grouped.dtype == torch.float64 else grouped.float()
        var, mean = torch.var_mean(exact, dim=2, correction=0)
        moments = torch.stack([mean, var], dim=1)  # [b * f, 2, groups]
        moments = moments.reshape(-1, windows.frames, 2, self.num_groups).transpose(1, 2)
        mean, var = self._pool(windows.moments(moments), windows.present)
        shape = (-1, windows.hop, self.num_groups)
        mean = mean[:, None].expand(shape).reshape(-1, self.num_groups, 1)
        scale = torch.rsqrt(var + self.eps)[:, None].expand(shape).reshape(-1, self.num_groups, 1)
        normed = ((exact - mean) * scale).to(x.dtype).reshape(-1, channels, height, width)
        return normed * self.weight[:, None, None] + self.bias[:, None, None]

    @staticmethod
    def _pool(moments: Tensor, present: Tensor | None) -> tuple[Tensor, Tensor]:
        """Mean and variance [n, groups] of all frames present in windows [n, 2, w, groups]."""
        means, variances = moments[:, 0], moments[:, 1]
        if present is None:
            share = torch.full_like(means[:, :, :1], 1.0 / means.shape[1])
        else:
            share = (present / present.sum(dim=1, keepdim=True)).to(means.dtype)[:, :, None]
        mean = (share * means).sum(dim=1)
        spread = (means - mean[:, None]) ** 2
        return mean, (share * (variances + spread)).sum(dim=1)


class ResnetBlock(nn.Module):
    """Two convolutions; the time embedding of each frame is added, or scales and shifts."""

    def __init__(
        self,
        channels: int,
        out_channels: int,
        time_channels: int,
        groups: int,
        *,
        per_frame_norm: bool,
        time_scale_shift: bool,
    ) -> None:
        super().__init__()
        self.time_scale_shift = time_scale_shift
        self.norm1 = FrameGroupNorm(groups, channels, per_frame=per_frame_norm)
        self.conv1 = nn.Conv2d(channels, out_channels, 3, padding=1)
        self.time_emb_proj = nn.Linear(
            time_channels, 2 * out_channels if time_scale_shift else out_channels
        )
        self.norm2 = FrameGroupNorm(groups, out_channels, per_frame=per_frame_norm)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1)
        if channels != out_channels:
            self.conv_shortcut = nn.Conv2d(channels, out_channels, 1)

    def forward(self, x: Tensor, time: Tensor, windows: FrameWindows) -> Tensor:
        """[b * f, out_channels, h, w] of x [b * f, channels, h, w], time [b * f, channels]."""
        hidden = self.conv1(F.silu(self.norm1(x, windows)))
        projected = self.time_emb_proj(F.silu(time))[:, :, None, None]
        if self.time_scale_shift:
            scale, shift = projected.chunk(2, dim=1)
            hidden = self.norm2(hidden, windows) * (1.0 + scale) + shift
        else:
            hidden = self.norm2(hidden + projected, windows)
        hidden = self.conv2(F.silu(hidden))
        if self.conv1.in_channels != self.conv1.out_channels:
            x = self.conv_shortcut(x)
        return x + hidden  # type: ignore[no-any-return]


class Downsample(nn.Module):
    """Half the size by a 3x3 convolution of stride 2."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, stride=2, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x)  # type: ignore[no-any-return]


class Upsample(nn.Module):
    """The size of the skip connection that follows, by nearest neighbour and a convolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor, size: tuple[int, int]) -> Tensor:
        if size == (2 * x.shape[2], 2 * x.shape[3]):
            x = F.interpolate(x, scale_factor=2.0, mode="nearest")
        else:  # an odd size was rounded up on the way down
            x = F.interpolate(x, size=size, mode="nearest")
        return self.conv(x)  # type: ignore[no-any-return]
