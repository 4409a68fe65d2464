"""LatentSync's sync network: do these 16 frames of a mouth fit this sound?

    load_syncnet(path)  # stable_syncnet.pt as published, every key and shape of it checked

Architecture and key names of github.com/bytedance/LatentSync; the published sizes are those
of its `configs/syncnet/syncnet_16_pixel_attn.yaml`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from engine.errors import ConfigError
from engine.models.attention import FeedForward, attend
from engine.models.build import check_shapes, load_module
from engine.models.weight_files import WeightFile

Factor = int | tuple[int, int]

NORM_EPS = 1e-6
GROUPS = 32
HEADS = 8
# What a stride-2 convolution pads: left, right, top, bottom.
_PADDING: dict[Factor, tuple[int, int, int, int]] = {(1, 2): (0, 1, 1, 1), (2, 1): (1, 1, 0, 1)}
_PADDING_ELSE = (0, 1, 0, 1)


@dataclass(frozen=True, slots=True)
class BranchSpec:
    """One of the two encoders.

    Attributes:
        block_out_channels: a residual block each.
        downsample_factors: of each block, one number or (rows, columns); 1 for none.
        attn_blocks: whether an attention block follows each residual block.
    """

    in_channels: int
    block_out_channels: tuple[int, ...]
    downsample_factors: tuple[Factor, ...]
    attn_blocks: tuple[bool, ...]

    def __post_init__(self) -> None:
        blocks = len(self.block_out_channels)
        if not len(self.downsample_factors) == len(self.attn_blocks) == blocks:
            raise ConfigError(
                f"expected a factor and an attention flag for each of {blocks} blocks, got "
                f"{len(self.downsample_factors)} and {len(self.attn_blocks)}"
            )
        if any(channels % GROUPS for channels in self.block_out_channels):
            raise ConfigError(
                f"expected block channels in multiples of {GROUPS}, got {self.block_out_channels}"
            )


# 134 and 267 M parameters: 80 x 52 log-mel, and 16 frames of 128 x 256 as 48 channels.
PUBLISHED_AUDIO = BranchSpec(
    in_channels=1,
    block_out_channels=(32, 64, 128, 256, 512, 1024, 2048),
    downsample_factors=((2, 1), 2, 2, 1, 2, 2, (2, 3)),
    attn_blocks=(False, False, False, True, True, False, False),
)
PUBLISHED_VISUAL = BranchSpec(
    in_channels=48,
    block_out_channels=(64, 128, 256, 256, 512, 1024, 2048, 2048),
    downsample_factors=((1, 2), 2, 2, 2, 2, 2, 2, 2),
    attn_blocks=(False, False, False, False, True, True, False, False),
)


class SyncResnet(nn.Module):
    """Two convolutions beside the identity, then an optional smaller size."""

    def __init__(self, channels: int, out_channels: int, factor: Factor) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(GROUPS, channels, eps=NORM_EPS)
        self.conv1 = nn.Conv2d(channels, out_channels, 3, padding=1)
        self.norm2 = nn.GroupNorm(GROUPS, out_channels, eps=NORM_EPS)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1)
        self.conv_shortcut: nn.Conv2d | None = None
        if channels != out_channels:
            self.conv_shortcut = nn.Conv2d(channels, out_channels, 1)
        self.downsample_conv: nn.Conv2d | None = None
        if factor not in (1, (1, 1)):
            self.downsample_conv = nn.Conv2d(out_channels, out_channels, 3, stride=factor)
        self.padding = _PADDING.get(factor, _PADDING_ELSE)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.conv1(F.silu(self.norm1(x)))
        hidden = self.conv2(F.silu(self.norm2(hidden)))
        x = hidden + (x if self.conv_shortcut is None else self.conv_shortcut(x))
        if self.downsample_conv is not None:
            x = self.downsample_conv(F.pad(x, self.padding))
        return x


class BiasedAttention(nn.Module):
    """Self-attention whose projections have biases."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.to_q = nn.Linear(channels, channels)
        self.to_k = nn.Linear(channels, channels)
        self.to_v = nn.Linear(channels, channels)
        self.to_out = nn.ModuleList([nn.Linear(channels, channels)])

    def forward(self, x: Tensor) -> Tensor:
        batch, tokens, channels = x.shape
        shape = (batch, tokens, HEADS, channels // HEADS)
        q, k, v = (layer(x).view(shape).transpose(1, 2) for layer in self._projections())
        mixed = attend(q, k, v).transpose(1, 2).reshape(x.shape)
        return self.to_out[0](mixed)  # type: ignore[no-any-return]

    def _projections(self) -> tuple[nn.Linear, nn.Linear, nn.Linear]:
        return self.to_q, self.to_k, self.to_v


class SyncAttention(nn.Module):
    """Self-attention and a feed-forward over the pixels of a feature map."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(GROUPS, channels, eps=NORM_EPS)
        self.norm2 = nn.LayerNorm(channels)
        self.norm3 = nn.LayerNorm(channels)
        self.ff = FeedForward(channels)
        self.conv_in = nn.Conv2d(channels, channels, 1)
        self.conv_out = nn.Conv2d(channels, channels, 1)
        self.attn = BiasedAttention(channels)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.conv_in(self.norm1(x)).flatten(2).transpose(1, 2)
        tokens = tokens + self.attn(self.norm2(tokens))
        tokens = tokens + self.ff(self.norm3(tokens))
        return x + self.conv_out(tokens.transpose(1, 2).reshape(x.shape))  # type: ignore[no-any-return]


class SyncBranch(nn.Module):
    """A feature map down to one pixel: [n, in_channels, h, w] -> [n, channels, 1, 1]."""

    def __init__(self, spec: BranchSpec) -> None:
        super().__init__()
        self.conv_in = nn.Conv2d(spec.in_channels, spec.block_out_channels[0], 3, padding=1)
        blocks: list[nn.Module] = []
        channels = spec.block_out_channels[0]
        for out_channels, factor, attention in zip(
            spec.block_out_channels, spec.downsample_factors, spec.attn_blocks, strict=True
        ):
            blocks.append(SyncResnet(channels, out_channels, factor))
            if attention:
                blocks.append(SyncAttention(out_channels))
            channels = out_channels
        self.down_blocks = nn.ModuleList(blocks)
        self.norm_out = nn.GroupNorm(GROUPS, channels, eps=NORM_EPS)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv_in(x)
        for block in self.down_blocks:
            x = block(x)
        return F.relu(self.norm_out(x))


class StableSyncNet(nn.Module):
    """Both encoders; the cosine of their embeddings says how well they fit."""

    def __init__(self, audio: BranchSpec, visual: BranchSpec) -> None:
        super().__init__()
        self.audio_encoder = SyncBranch(audio)
        self.visual_encoder = SyncBranch(visual)

    def features(self, frames: Tensor, mel: Tensor) -> tuple[Tensor, Tensor]:
        """The embeddings before normalisation, [n, channels] each.

        Args:
            frames: [n, 3 * 16, h, w], channel = frame * 3 + colour, lower half of the face.
            mel: [n, 1, 80, 52].
        """
        visual: Tensor = self.visual_encoder(frames)
        audio: Tensor = self.audio_encoder(mel)
        return visual.flatten(1), audio.flatten(1)

    def forward(self, frames: Tensor, mel: Tensor) -> tuple[Tensor, Tensor]:
        """Visual and audio embeddings of unit length, [n, channels] each."""
        visual, audio = self.features(frames, mel)
        return F.normalize(visual, dim=1), F.normalize(audio, dim=1)


def load_syncnet(
    path: Path,
    audio: BranchSpec = PUBLISHED_AUDIO,
    visual: BranchSpec = PUBLISHED_VISUAL,
    device: torch.device | str = "cpu",
    dtype: torch.dtype | None = None,
) -> StableSyncNet:
    """The network with the weights of a file, on `device`, in `dtype` (float32), ready to run.

    Args:
        path: `.pt` (read without running its code, the weights under "state_dict" or plain)
            or `.safetensors`.
        audio, visual: of the network that the file is for; the published one's.

    Raises:
        ModelError: the file cannot be read.
        StateDictMismatch: keys are missing, unexpected or misshapen; it lists them.
    """
    return load_module(lambda: StableSyncNet(audio, visual), path, device, dtype)


def check_syncnet(path: Path) -> None:
    """Raises what `load_syncnet` would for a published file, without reading its weights."""
    with torch.device("meta"):
        net = StableSyncNet(PUBLISHED_AUDIO, PUBLISHED_VISUAL)
    check_shapes(str(path), net, WeightFile(path).shapes)
