"""The levels of the U-Net: down, middle, up.

Every layer is a ResNet, then (where the level has it) spatial attention, then
(where the level has it) a temporal module.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from engine.models.attention import SpatialTransformer
from engine.models.frame_windows import FrameWindows
from engine.models.resnet import Downsample, ResnetBlock, Upsample
from engine.models.temporal import MotionModule
from engine.spec import UNetSpec


def resnet(spec: UNetSpec, channels: int, out_channels: int) -> ResnetBlock:
    """A residual block between these widths."""
    return ResnetBlock(
        channels,
        out_channels,
        4 * spec.block_out_channels[0],
        spec.norm_num_groups,
        per_frame_norm=spec.per_frame_norm,
        time_scale_shift=spec.time_scale_shift,
    )


def spatial_transformer(spec: UNetSpec, channels: int) -> SpatialTransformer:
    """Spatial attention and audio cross-attention at this width."""
    return SpatialTransformer(
        channels, spec.cross_attention_dim, spec.attention_heads, spec.norm_num_groups
    )


class Level(nn.Module):
    """The layers of one resolution, downwards or upwards.

    A level without attention or temporal modules holds an empty list of them,
    which has no keys.
    """

    def __init__(
        self, spec: UNetSpec, widths: list[tuple[int, int]], *, attention: bool, motion: bool
    ) -> None:
        super().__init__()
        outs = [out for _, out in widths]
        self.resnets = nn.ModuleList(resnet(spec, *pair) for pair in widths)
        self.attentions = nn.ModuleList(spatial_transformer(spec, out) for out in outs if attention)
        self.motion_modules = nn.ModuleList(
            MotionModule(out, spec.motion_heads, spec.motion_positions, spec.norm_num_groups)
            for out in outs
            if motion
        )

    def layer(
        self, index: int, x: Tensor, time: Tensor, audio: Tensor, windows: FrameWindows
    ) -> Tensor:
        x = self.resnets[index](x, time, windows)
        if len(self.attentions):
            x = self.attentions[index](x, audio)
        if len(self.motion_modules):
            x = self.motion_modules[index](x, windows)
        return x


class DownBlock(Level):
    """A level of the encoder: gives its skip connections besides its output."""

    def __init__(
        self, spec: UNetSpec, channels: int, out_channels: int, *, attention: bool, last: bool
    ) -> None:
        widths = [(channels, out_channels)]
        widths += [(out_channels, out_channels)] * (spec.layers_per_block - 1)
        super().__init__(spec, widths, attention=attention, motion=not spec.motion_decoder_only)
        self.downsamplers = nn.ModuleList([] if last else [Downsample(out_channels)])

    def forward(
        self, x: Tensor, time: Tensor, audio: Tensor, windows: FrameWindows
    ) -> tuple[Tensor, list[Tensor]]:
        skips: list[Tensor] = []
        for index in range(len(self.resnets)):
            x = self.layer(index, x, time, audio, windows)
            skips.append(x)
        for downsampler in self.downsamplers:
            x = downsampler(x)
            skips.append(x)
        return x, skips


class MidBlock(nn.Module):
    """The coarsest level: spatial attention between two ResNets, no temporal module."""

    def __init__(self, spec: UNetSpec) -> None:
        super().__init__()
        channels = spec.block_out_channels[-1]
        self.resnets = nn.ModuleList(resnet(spec, channels, channels) for _ in range(2))
        self.attentions = nn.ModuleList([spatial_transformer(spec, channels)])

    def forward(self, x: Tensor, time: Tensor, audio: Tensor, windows: FrameWindows) -> Tensor:
        x = self.resnets[0](x, time, windows)
        x = self.attentions[0](x, audio)
        return self.resnets[1](x, time, windows)  # type: ignore[no-any-return]


class UpBlock(Level):
    """A level of the decoder: each layer reads one skip connection."""

    def __init__(
        self,
        spec: UNetSpec,
        channels: int,
        out_channels: int,
        skip_channels: list[int],
        *,
        attention: bool,
        last: bool,
    ) -> None:
        inputs = [channels] + [out_channels] * (len(skip_channels) - 1)
        widths = [
            (own + skip, out_channels) for own, skip in zip(inputs, skip_channels, strict=True)
        ]
        super().__init__(spec, widths, attention=attention, motion=True)
        self.upsamplers = nn.ModuleList([] if last else [Upsample(out_channels)])

    def forward(
        self, x: Tensor, skips: list[Tensor], time: Tensor, audio: Tensor, windows: FrameWindows
    ) -> Tensor:
        """The level's output; takes its skip connections from the end of `skips`."""
        for index in range(len(self.resnets)):
            x = torch.cat([x, skips.pop()], dim=1)
            x = self.layer(index, x, time, audio, windows)
        for upsampler in self.upsamplers:
            x = upsampler(x, (skips[-1].shape[2], skips[-1].shape[3]))
        return x
