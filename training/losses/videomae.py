"""VideoMAE v2's encoder: one vector for 16 frames of video.

VideoMAE V2: Scaling Video Masked Autoencoders with Dual Masking (2303.16727). LatentSync reads
the giant one, fine-tuned on Something-Something v2 (`vit_g_hybrid_pt_1200e_ssv2_ft.pth`).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from engine.models.attention import attend
from engine.models.temporal import position_table
from training.strict_weights import load_renamed

NORM_EPS = 1e-6


@dataclass(frozen=True, slots=True)
class VideoMaeSpec:
    """The defaults are the giant one's (1,012 million parameters).

    Attributes:
        size: pixels of the square frames.
        patch: pixels of a patch, each way.
        tubelet: frames of a patch.
        inner: channels inside the feed-forward.
    """

    size: int = 224
    frames: int = 16
    patch: int = 14
    tubelet: int = 2
    width: int = 1408
    depth: int = 40
    heads: int = 16
    inner: int = 6144

    @property
    def patches(self) -> int:
        """Tokens of a clip."""
        return (self.size // self.patch) ** 2 * (self.frames // self.tubelet)


class BiasedAttention(nn.Module):
    """Self-attention whose keys alone have no bias; one matrix for queries, keys and values."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.q_bias = nn.Parameter(torch.zeros(width))
        self.v_bias = nn.Parameter(torch.zeros(width))
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        batch, tokens, _ = x.shape
        bias = torch.cat([self.q_bias, torch.zeros_like(self.v_bias), self.v_bias])
        joined = F.linear(x, self.qkv.weight, bias)
        q, k, v = joined.reshape(batch, tokens, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        return self.proj(attend(q, k, v).transpose(1, 2).reshape(x.shape))  # type: ignore[no-any-return]


class FeedForward(nn.Module):
    """Two linear layers around an exact GELU."""

    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, inner)
        self.fc2 = nn.Linear(inner, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(x)))  # type: ignore[no-any-return]


class VideoMaeBlock(nn.Module):
    """Attention and a feed-forward, each behind its own norm."""

    def __init__(self, spec: VideoMaeSpec) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(spec.width, eps=NORM_EPS)
        self.attn = BiasedAttention(spec.width, spec.heads)
        self.norm2 = nn.LayerNorm(spec.width, eps=NORM_EPS)
        self.mlp = FeedForward(spec.width, spec.inner)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))  # type: ignore[no-any-return]


class PatchEmbedding(nn.Module):
    """Tokens of blocks of `tubelet` frames and `patch` x `patch` pixels."""

    def __init__(self, spec: VideoMaeSpec) -> None:
        super().__init__()
        block = (spec.tubelet, spec.patch, spec.patch)
        self.proj = nn.Conv3d(3, spec.width, block, stride=block)

    def forward(self, video: Tensor) -> Tensor:
        return self.proj(video).flatten(2).transpose(1, 2)  # type: ignore[no-any-return]


class VideoMae(nn.Module):
    """[n, width] of clips: the normed mean of all tokens."""

    def __init__(self, spec: VideoMaeSpec) -> None:
        super().__init__()
        self.spec = spec
        self.patch_embed = PatchEmbedding(spec)
        self.blocks = nn.ModuleList(VideoMaeBlock(spec) for _ in range(spec.depth))
        self.fc_norm = nn.LayerNorm(spec.width, eps=NORM_EPS)

    @classmethod
    def load(
        cls, path: Path, device: torch.device | str, dtype: torch.dtype, spec: VideoMaeSpec
    ) -> VideoMae:
        """The encoder of a published file, frozen; its classifier's head is left out.

        Raises:
            ModelError: the file cannot be read, or its keys differ (StateDictMismatch).
        """
        return load_renamed(lambda: cls(spec), path, _encoder_key, device, dtype)

    def forward(self, video: Tensor) -> Tensor:
        """[n, width] of video [n, 3, frames, size, size] in [0, 1]."""
        x = self.patch_embed(video)
        table = position_table(self.spec.width, self.spec.patches)
        x = x + table.to(x)
        for block in self.blocks:
            x = block(x)
        return self.fc_norm(x.mean(dim=1))  # type: ignore[no-any-return]


def _encoder_key(key: str) -> str:
    return "" if key.startswith("head.") else key
