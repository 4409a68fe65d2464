"""Spatial attention: each frame by itself, then against its own audio tokens."""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn


def attend(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None = None) -> Tensor:
    """Scaled dot-product attention [n, heads, queries, width], `bias` added to the scores.

    Under the CPU's autocast it stays in f32: at these sizes the bf16 kernel
    takes three to nine times as long, forward and backward.
    """
    if q.device.type == "cpu" and torch.is_autocast_enabled("cpu"):
        with torch.autocast("cpu", enabled=False):
            return F.scaled_dot_product_attention(q.float(), k.float(), v.float(), attn_mask=bias)
    mask = None if bias is None else bias.to(q.dtype)
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask)


class GatedGELU(nn.Module):
    """Half of the projection gates the other by the exact (erf) GELU."""

    def __init__(self, channels: int, inner: int) -> None:
        super().__init__()
        self.proj = nn.Linear(channels, 2 * inner)

    def forward(self, x: Tensor) -> Tensor:
        value, gate = self.proj(x).chunk(2, dim=-1)
        return value * F.gelu(gate)  # type: ignore[no-any-return]


class FeedForward(nn.Module):
    """Gated, four times as wide inside."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.net = nn.Sequential(
            GatedGELU(channels, 4 * channels),
            nn.Identity(),  # upstream's dropout holds index 1
            nn.Linear(4 * channels, channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)  # type: ignore[no-any-return]


class Attention(nn.Module):
    """Multi-head attention; only the output layer has a bias."""

    def __init__(self, channels: int, source_channels: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.to_q = nn.Linear(channels, channels, bias=False)
        self.to_k = nn.Linear(source_channels, channels, bias=False)
        self.to_v = nn.Linear(source_channels, channels, bias=False)
        self.to_out = nn.ModuleList([nn.Linear(channels, channels)])

    def forward(self, x: Tensor, source: Tensor) -> Tensor:
        """[n, tokens, channels] from x of that shape and source [n, m, source_channels]."""
        q = self._split(self.to_q(x))
        k = self._split(self.to_k(source))
        v = self._split(self.to_v(source))
        mixed = attend(q, k, v).transpose(1, 2).reshape(x.shape)
        return self.to_out[0](mixed)  # type: ignore[no-any-return]

    def _split(self, x: Tensor) -> Tensor:
        _, tokens, channels = x.shape
        return x.reshape(-1, tokens, self.heads, channels // self.heads).transpose(1, 2)


class SpatialBlock(nn.Module):
    """Self-attention over pixels, cross-attention to audio, feed-forward."""

    def __init__(self, channels: int, audio_channels: int, heads: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(channels)
        self.attn1 = Attention(channels, channels, heads)
        self.norm2 = nn.LayerNorm(channels)
        self.attn2 = Attention(channels, audio_channels, heads)
        self.ff = FeedForward(channels)
        self.norm3 = nn.LayerNorm(channels)

    def forward(self, x: Tensor, audio: Tensor) -> Tensor:
        normed = self.norm1(x)
        x = x + self.attn1(normed, normed)
        x = x + self.attn2(self.norm2(x), audio)
        return x + self.ff(self.norm3(x))  # type: ignore[no-any-return]


class SpatialTransformer(nn.Module):
    """One spatial block between 1x1 convolutions, added to its input."""

    def __init__(self, channels: int, audio_channels: int, heads: int, groups: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(groups, channels, eps=1e-6)
        self.proj_in = nn.Conv2d(channels, channels, 1)
        self.transformer_blocks = nn.ModuleList([SpatialBlock(channels, audio_channels, heads)])
        self.proj_out = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor, audio: Tensor) -> Tensor:
        """[b * f, channels, h, w] of x of that shape and audio [b * f, tokens, audio_channels]."""
        _, channels, height, width = x.shape
        tokens = self.proj_in(self.norm(x)).flatten(2).transpose(1, 2)
        for block in self.transformer_blocks:
            tokens = block(tokens, audio)
        picture = tokens.transpose(1, 2).reshape(-1, channels, height, width)
        return x + self.proj_out(picture)  # type: ignore[no-any-return]
