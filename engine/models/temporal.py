"""Temporal (motion) modules: every pixel attends over the frames of its window.

Keys and values are carried from before their position was added, because a
frame's place in the window moves with every hop. The projections are linear,
so the position can be added on read: W (x + pe) = W x + W pe.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from engine.models.attention import FeedForward, attend
from engine.models.frame_windows import FrameWindows


def position_table(channels: int, positions: int) -> Tensor:
    """[1, positions, channels] sinusoidal places of frames, sines and cosines interleaved."""
    scales = torch.exp(torch.arange(0, channels, 2) * (-math.log(10_000.0) / channels))
    angles = torch.arange(positions)[:, None] * scales[None, :]
    return torch.stack([angles.sin(), angles.cos()], dim=2).reshape(1, positions, channels)


class PositionTable(nn.Module):
    """Sinusoidal places of frames, under upstream's key."""

    pe: Tensor

    def __init__(self, channels: int, positions: int) -> None:
        super().__init__()
        self.register_buffer("pe", position_table(channels, positions))


class TemporalAttention(nn.Module):
    """Self-attention of a pixel over the frames of its window."""

    def __init__(self, channels: int, heads: int, positions: int) -> None:
        super().__init__()
        self.heads = heads
        self.to_q = nn.Linear(channels, channels, bias=False)
        self.to_k = nn.Linear(channels, channels, bias=False)
        self.to_v = nn.Linear(channels, channels, bias=False)
        self.to_out = nn.ModuleList([nn.Linear(channels, channels)])
        self.pos_encoder = PositionTable(channels, positions)

    def forward(self, x: Tensor, windows: FrameWindows) -> Tensor:
        """[b, f, pixels, channels] from x of that shape, normed."""
        _, frames, pixels, channels = x.shape
        table = self.pos_encoder.pe[0, : windows.context + windows.hop]
        own = torch.stack([self.to_k(x), self.to_v(x)], dim=1)
        seen = windows.keys_values(own)  # [b * blocks, 2, context + hop, pixels, channels]
        k = self._split(seen[:, 0] + _placed(self.to_k(table), windows))
        v = self._split(seen[:, 1] + _placed(self.to_v(table), windows))
        q = self.to_q(x).reshape(-1, windows.hop, pixels, channels)
        q = self._split(q + self.to_q(table[windows.context :])[:, None])
        mixed = attend(q, k, v, windows.bias)
        head_width = channels // self.heads
        mixed = mixed.reshape(-1, pixels, self.heads, windows.hop, head_width)
        mixed = mixed.permute(0, 3, 1, 2, 4).reshape(-1, frames, pixels, channels)
        return self.to_out[0](mixed)  # type: ignore[no-any-return]

    def _split(self, x: Tensor) -> Tensor:
        """[n, pixels * heads, frames, head width] of [n, frames, pixels, channels]."""
        _, frames, pixels, channels = x.shape
        head_width = channels // self.heads
        x = x.reshape(-1, frames, pixels * self.heads, head_width)
        return x.transpose(1, 2)


def _placed(table: Tensor, windows: FrameWindows) -> Tensor:
    """[1 | b, context + hop, 1, channels] the rows of a table at the places of the frames seen."""
    if windows.places is None:
        return table[None, :, None]
    return table[windows.places][:, :, None]


class TemporalBlock(nn.Module):
    """Two self-attentions over frames, then a feed-forward."""

    def __init__(self, channels: int, heads: int, positions: int) -> None:
        super().__init__()
        self.attention_blocks = nn.ModuleList(
            TemporalAttention(channels, heads, positions) for _ in range(2)
        )
        self.norms = nn.ModuleList(nn.LayerNorm(channels) for _ in range(2))
        self.ff = FeedForward(channels)
        self.ff_norm = nn.LayerNorm(channels)

    def forward(self, x: Tensor, windows: FrameWindows) -> Tensor:
        for attention, norm in zip(self.attention_blocks, self.norms, strict=True):
            x = x + attention(norm(x), windows)
        return x + self.ff(self.ff_norm(x))  # type: ignore[no-any-return]


class TemporalTransformer(nn.Module):
    """One temporal block between linear layers, added to its input; norms are per frame."""

    def __init__(self, channels: int, heads: int, positions: int, groups: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(groups, channels, eps=1e-6)
        self.proj_in = nn.Linear(channels, channels)
        self.transformer_blocks = nn.ModuleList([TemporalBlock(channels, heads, positions)])
        self.proj_out = nn.Linear(channels, channels)
        nn.init.zeros_(self.proj_out.weight)
        nn.init.zeros_(self.proj_out.bias)

    def forward(self, x: Tensor, windows: FrameWindows) -> Tensor:
        """[b * f, channels, h, w] from x of that shape."""
        _, channels, height, width = x.shape
        pixels = height * width
        tokens = self.norm(x).flatten(2).transpose(1, 2)
        tokens = self.proj_in(tokens).reshape(-1, windows.frames, pixels, channels)
        for block in self.transformer_blocks:
            tokens = block(tokens, windows)
        tokens = self.proj_out(tokens).reshape(-1, pixels, channels).transpose(1, 2)
        return x + tokens.reshape(-1, channels, height, width)  # type: ignore[no-any-return]


class MotionModule(nn.Module):
    """Upstream's wrapper around one temporal transformer, for its key names."""

    def __init__(self, channels: int, heads: int, positions: int, groups: int) -> None:
        super().__init__()
        self.temporal_transformer = TemporalTransformer(channels, heads, positions, groups)

    def forward(self, x: Tensor, windows: FrameWindows) -> Tensor:
        return self.temporal_transformer(x, windows)  # type: ignore[no-any-return]
