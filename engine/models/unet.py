"""LatentSync's U-Net: a Stable Diffusion U-Net whose layers also see other frames.

State-dict keys and numbers are those of the published implementation, at any
width. Three ways to run it share one body (`engine.models.frame_windows`):
a whole window, one hop with carried rings, or a whole clip block by block.
Inside, frames are folded into the batch: [b * f, channels, h, w].
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from engine.models.frame_windows import FrameWindows
from engine.models.resnet import FrameGroupNorm
from engine.models.temporal import TemporalAttention
from engine.models.unet_blocks import DownBlock, MidBlock, UpBlock
from engine.spec import UNetSpec


def timestep_sinusoids(timestep: Tensor, channels: int) -> Tensor:
    """[b, channels] of timesteps [b]: cosines, then sines."""
    half = channels // 2
    scales = torch.exp(
        torch.arange(half, device=timestep.device, dtype=torch.float32) * (-math.log(10_000) / half)
    )
    angles = timestep.float()[:, None] * scales[None, :]
    return torch.cat([angles.cos(), angles.sin()], dim=1)


class TimeEmbedding(nn.Module):
    """Two linear layers on the sinusoids of the timestep."""

    def __init__(self, channels: int, time_channels: int) -> None:
        super().__init__()
        self.linear_1 = nn.Linear(channels, time_channels)
        self.linear_2 = nn.Linear(time_channels, time_channels)

    def forward(self, sinusoids: Tensor) -> Tensor:
        return self.linear_2(F.silu(self.linear_1(sinusoids)))  # type: ignore[no-any-return]


class AudioFilm(nn.Module):
    """All audio tokens of a frame, as an addition to its time embedding."""

    def __init__(self, tokens: int, width: int, time_channels: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.linear_1 = nn.Linear(tokens * width, time_channels)
        self.linear_2 = nn.Linear(time_channels, time_channels)

    def forward(self, audio: Tensor) -> Tensor:
        """[n, time_channels] of audio [n, tokens, width]."""
        hidden = F.silu(self.linear_1(self.norm(audio).flatten(1)))
        return self.linear_2(hidden)  # type: ignore[no-any-return]


class UNet3DConditionModel(nn.Module):
    """Predicts noise, or the clean latents, of a run of frames."""

    def __init__(self, spec: UNetSpec) -> None:
        super().__init__()
        self.spec = spec
        widths = spec.block_out_channels
        levels = len(widths)
        time_channels = 4 * widths[0]
        self.conv_in = nn.Conv2d(spec.in_channels, widths[0], 3, padding=1)
        self.time_embedding = TimeEmbedding(widths[0], time_channels)
        if spec.audio_film:
            self.audio_film = AudioFilm(spec.audio_tokens, spec.cross_attention_dim, time_channels)
        skip_widths = [widths[0]]
        self.down_blocks = nn.ModuleList()
        for level, (inner, outer) in enumerate(pairwise([widths[0], *widths])):
            last = level == levels - 1
            self.down_blocks.append(
                DownBlock(spec, inner, outer, attention=spec.attention_blocks[level], last=last)
            )
            skip_widths += [outer] * (spec.layers_per_block + (0 if last else 1))
        self.mid_block = MidBlock(spec)
        self.up_blocks = nn.ModuleList()
        inner = widths[-1]
        for level in reversed(range(levels)):
            skips = [skip_widths.pop() for _ in range(spec.layers_per_block + 1)]
            self.up_blocks.append(
                UpBlock(
                    spec,
                    inner,
                    widths[level],
                    skips,
                    attention=spec.attention_blocks[level],
                    last=level == 0,
                )
            )
            inner = widths[level]
        self.conv_norm_out = FrameGroupNorm(
            spec.norm_num_groups, widths[0], per_frame=spec.per_frame_norm
        )
        gates = spec.out_channels if spec.reference_gate else 0
        outputs = spec.prediction_channels + gates
        self.conv_out = nn.Conv2d(widths[0], outputs, 3, padding=1)

    def forward(
        self, sample: Tensor, timestep: Tensor, audio: Tensor, mask: Tensor | None = None
    ) -> Tensor:
        """The prediction for one window in which all frames see all frames.

        Args:
            sample: [b, in_channels, f, h, w]: noisy, mask, masked and reference latents.
            timestep: [b].
            audio: [b, f, tokens, width].
            mask: optional [f, f], True where the row's frame may attend to the column's;
                pooled norms see all frames all the same.

        Returns:
            [b, prediction_channels, f, h, w]
        """
        return self.run(sample, timestep, audio, FrameWindows.of_window(sample.shape[2], mask))

    def forward_hop(
        self,
        sample: Tensor,
        timestep: Tensor,
        audio: Tensor,
        valid: Tensor | None,
        rings: Sequence[Tensor],
        places: Tensor | None = None,
    ) -> tuple[Tensor, list[Tensor]]:
        """The prediction for h new frames after c carried ones.

        Args:
            sample: [b, in_channels, h, s, s] of the new frames.
            timestep: [b].
            audio: [b, h, tokens, width].
            valid: [b, c] 1.0 where the rings' slot is filled; None when c is 0.
            rings: [b, 2, c, pixels, channels] keys and values as `ring_shapes` lists them,
                then [b, 2, c, groups] moments as `moment_shapes` does; empty when c is 0.
            places: [b, c] int64, which position of the window each ring slot holds; None
                where the oldest frame comes first.

        Returns:
            [b, prediction_channels, h, s, s], and per ring [b, 2, h, ...] to append to it.
        """
        moments = len(rings) - len(self.moment_shapes())
        windows = FrameWindows.of_hop(
            sample.shape[2], valid, rings[:moments], rings[moments:], places
        )
        out = self.run(sample, timestep, audio, windows)
        return out, windows.new_rings + windows.new_moments

    def forward_window(
        self, sample: Tensor, timestep: Tensor, audio: Tensor, present: Tensor | None, *, keep: bool
    ) -> tuple[Tensor, list[Tensor]]:
        """The prediction for one window in which all frames see all frames that are there.

        Args:
            sample: [b, in_channels, f, h, w].
            timestep: [b].
            audio: [b, f, tokens, width].
            present: [b, f] 1.0 where there is a frame; None where all are there.
            keep: give keys, values and moments, as `forward_hop` does.

        Returns:
            [b, prediction_channels, f, h, w], and per ring [b, 2, f, ...]; none unless kept.
        """
        windows = FrameWindows.of_window(sample.shape[2], present=present, keep=keep)
        out = self.run(sample, timestep, audio, windows)
        return out, windows.new_rings + windows.new_moments

    def forward_clip(
        self, sample: Tensor, timestep: Tensor, audio: Tensor, hop: int, window: int = 16
    ) -> Tensor:
        """What hops of `hop` frames give for a whole clip, in one pass.

        Args:
            sample: [b, in_channels, F, h, w], F a multiple of `hop`, from a stream's start.
            timestep: [b].
            audio: [b, F, tokens, width].
            hop: frames of a block; a block sees `window` frames that end with it.

        Returns:
            [b, prediction_channels, F, h, w]
        """
        frames = sample.shape[2]
        if frames % hop:
            raise ValueError(f"expected a clip of a multiple of {hop} frames, got {frames}")
        windows = FrameWindows.of_clip(frames, hop, window - hop, sample.shape[0], sample)
        return self.run(sample, timestep, audio, windows)

    def ring_shapes(self, latent_size: int) -> list[tuple[int, int]]:
        """(pixels, channels) of every temporal self-attention, in order of execution."""
        levels = len(self.spec.block_out_channels)
        sizes = [latent_size]
        for _ in range(levels - 1):
            sizes.append((sizes[-1] + 1) // 2)
        blocks = list(zip(self.down_blocks, sizes, strict=True))
        blocks += list(zip(self.up_blocks, reversed(sizes), strict=True))
        return [
            (size**2, module.to_q.in_features)
            for block, size in blocks
            for module in block.modules()
            if isinstance(module, TemporalAttention)
        ]

    def moment_shapes(self) -> list[int]:
        """Groups of every norm that pools over frames, in order of execution."""
        return [
            module.num_groups
            for module in self.modules()
            if isinstance(module, FrameGroupNorm) and not module.per_frame
        ]

    def run(self, sample: Tensor, timestep: Tensor, audio: Tensor, windows: FrameWindows) -> Tensor:
        """The prediction in given windows, which note what they carry.

        Args:
            sample: [b, in_channels, f, h, w].
            timestep: [b].
            audio: [b, f, tokens, width].
            windows: of this call alone.

        Returns:
            [b, prediction_channels, f, h, w]
        """
        _, channels, frames, height, width = sample.shape
        x = sample.transpose(1, 2).reshape(-1, channels, height, width)
        audio = audio.flatten(0, 1)
        sinusoids = timestep_sinusoids(timestep, self.spec.block_out_channels[0]).to(x.dtype)
        time = self.time_embedding(sinusoids)
        time = time[:, None].expand(-1, frames, -1).flatten(0, 1)
        if self.spec.audio_film:
            time = time + self.audio_film(audio)
        x = self.conv_in(x)
        skips = [x]
        for block in self.down_blocks:
            x, more = block(x, time, audio, windows)
            skips += more
        x = self.mid_block(x, time, audio, windows)
        for block in self.up_blocks:
            x = block(x, skips, time, audio, windows)
        x = self.conv_out(F.silu(self.conv_norm_out(x, windows)))
        if self.spec.reference_gate:
            latents = self.spec.out_channels
            drawn, gate = x[:, :latents], x[:, latents : 2 * latents]
            reference = sample[:, -latents:].transpose(1, 2)
            reference = reference.reshape(-1, latents, height, width)
            gated = drawn + torch.sigmoid(gate) * (reference - drawn)
            # An empty part would change the exported graphs of models without a warp.
            x = torch.cat([gated, x[:, 2 * latents :]], dim=1) if self.spec.source_warp else gated
        x = x.reshape(-1, frames, self.spec.prediction_channels, height, width)
        return x.transpose(1, 2)
