"""The Stable Diffusion picture codec, under the keys that diffusers gives its weights.

LatentSync reads `stabilityai/sd-vae-ft-mse`. Upstream samples the encoder's
posterior, which puts new noise into every frame; here its mode is taken.

High-Resolution Image Synthesis with Latent Diffusion Models (2112.10752); the
layout is that of diffusers' `AutoencoderKL`.
"""

from __future__ import annotations

import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from engine.models.decode_rows import Step
from engine.models.decoder_walk import WHOLE, WholeWalk
from engine.spec import CodecSpec

NORM_EPS = 1e-6
RESNET_STEPS: tuple[Step, ...] = ("norm", "conv", "norm", "conv")


class ResnetBlock(nn.Module):
    """Two convolutions beside the identity."""

    def __init__(self, channels: int, out_channels: int, groups: int) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(groups, channels, eps=NORM_EPS)
        self.conv1 = nn.Conv2d(channels, out_channels, 3, padding=1)
        self.norm2 = nn.GroupNorm(groups, out_channels, eps=NORM_EPS)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1)
        if channels != out_channels:
            self.conv_shortcut = nn.Conv2d(channels, out_channels, 1)

    def forward(self, x: Tensor, walk: WholeWalk = WHOLE) -> Tensor:
        mark = walk.mark()
        hidden = walk.conv(self.conv1, F.silu(walk.norm(self.norm1, x)))
        hidden = walk.conv(self.conv2, F.silu(walk.norm(self.norm2, hidden)))
        x = walk.since(mark, x)
        if self.conv1.in_channels != self.conv1.out_channels:
            x = self.conv_shortcut(x)
        return x + hidden


class SpatialAttention(nn.Module):
    """Every pixel attends to every other one, in one head."""

    def __init__(self, channels: int, groups: int) -> None:
        super().__init__()
        self.group_norm = nn.GroupNorm(groups, channels, eps=NORM_EPS)
        self.to_q = nn.Linear(channels, channels)
        self.to_k = nn.Linear(channels, channels)
        self.to_v = nn.Linear(channels, channels)
        self.to_out = nn.ModuleList([nn.Linear(channels, channels)])

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.group_norm(x).flatten(2).transpose(1, 2)[:, None]  # [n, 1, h * w, c]
        attended = F.scaled_dot_product_attention(
            self.to_q(tokens), self.to_k(tokens), self.to_v(tokens)
        )
        mixed: Tensor = self.to_out[0](attended[:, 0])
        return x + mixed.transpose(1, 2).reshape(x.shape)


class MiddleBlock(nn.Module):
    """Attention between two residual blocks, at the lowest resolution."""

    def __init__(self, channels: int, groups: int) -> None:
        super().__init__()
        self.resnets = nn.ModuleList([ResnetBlock(channels, channels, groups) for _ in range(2)])
        self.attentions = nn.ModuleList([SpatialAttention(channels, groups)])
        self.steps: tuple[Step, ...] = (*RESNET_STEPS, "attention", *RESNET_STEPS)

    def forward(self, x: Tensor, walk: WholeWalk = WHOLE) -> Tensor:
        x = walk.attention(self.attentions[0], self.resnets[0](x, walk))
        return self.resnets[1](x, walk)  # type: ignore[no-any-return]


class Downsampler(nn.Module):
    """Half the size; the padding is all on the right and below, as it was trained."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(F.pad(x, (0, 1, 0, 1)))  # type: ignore[no-any-return]


class Upsampler(nn.Module):
    """Twice the size."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor, walk: WholeWalk) -> Tensor:
        return walk.upsample(self.conv, x)


class DownBlock(nn.Module):
    """The residual blocks of one resolution, and the way to the next lower one."""

    def __init__(
        self, channels: int, out_channels: int, layers: int, groups: int, *, last: bool
    ) -> None:
        super().__init__()
        self.resnets = _resnets(channels, out_channels, layers, groups)
        if not last:
            self.downsamplers = nn.ModuleList([Downsampler(out_channels)])

    def forward(self, x: Tensor) -> Tensor:
        for resnet in self.resnets:
            x = resnet(x)
        for downsampler in getattr(self, "downsamplers", ()):
            x = downsampler(x)
        return x


class UpBlock(nn.Module):
    """The residual blocks of one resolution, and the way to the next higher one."""

    def __init__(
        self, channels: int, out_channels: int, layers: int, groups: int, *, last: bool
    ) -> None:
        super().__init__()
        self.resnets = _resnets(channels, out_channels, layers, groups)
        if not last:
            self.upsamplers = nn.ModuleList([Upsampler(out_channels)])
        self.steps: tuple[Step, ...] = (*RESNET_STEPS * layers, *(() if last else ("upsample",)))

    def forward(self, x: Tensor, walk: WholeWalk) -> Tensor:
        for resnet in self.resnets:
            x = resnet(x, walk)
        for upsampler in getattr(self, "upsamplers", ()):
            x = upsampler(x, walk)
        return x


class Encoder(nn.Module):
    """[n, 3, R, R] -> [n, 2 C, R/8, R/8], the posterior's mean and log variance."""

    def __init__(self, spec: CodecSpec) -> None:
        super().__init__()
        widths, groups = spec.block_out_channels, spec.norm_num_groups
        self.conv_in = nn.Conv2d(3, widths[0], 3, padding=1)
        self.down_blocks = nn.ModuleList(
            DownBlock(
                widths[max(level - 1, 0)],
                width,
                spec.layers_per_block,
                groups,
                last=level == len(widths) - 1,
            )
            for level, width in enumerate(widths)
        )
        self.mid_block = MiddleBlock(widths[-1], groups)
        self.conv_norm_out = nn.GroupNorm(groups, widths[-1], eps=NORM_EPS)
        self.conv_out = nn.Conv2d(widths[-1], 2 * spec.latent_channels, 3, padding=1)

    def forward(self, image: Tensor) -> Tensor:
        x = self.conv_in(image)
        for block in self.down_blocks:
            x = block(x)
        return self.conv_out(F.silu(self.conv_norm_out(self.mid_block(x))))  # type: ignore[no-any-return]


class Decoder(nn.Module):
    """[n, C, s, s] -> [n, 3, R, R], or the rows of it that the walk ends with.

    Attributes:
        steps: what it does, as `decode_rows` plans it.
    """

    def __init__(self, spec: CodecSpec) -> None:
        super().__init__()
        widths, groups = spec.block_out_channels[::-1], spec.norm_num_groups
        self.conv_in = nn.Conv2d(spec.latent_channels, widths[0], 3, padding=1)
        self.mid_block = MiddleBlock(widths[0], groups)
        blocks = [
            UpBlock(
                widths[max(level - 1, 0)],
                width,
                spec.layers_per_block + 1,
                groups,
                last=level == len(widths) - 1,
            )
            for level, width in enumerate(widths)
        ]
        self.up_blocks = nn.ModuleList(blocks)
        self.conv_norm_out = nn.GroupNorm(groups, widths[-1], eps=NORM_EPS)
        self.conv_out = nn.Conv2d(widths[-1], 3, 3, padding=1)
        up = (step for block in blocks for step in block.steps)
        self.steps: tuple[Step, ...] = ("conv", *self.mid_block.steps, *up, "norm", "conv")

    def forward(self, latents: Tensor, walk: WholeWalk = WHOLE) -> Tensor:
        x = self.mid_block(walk.conv(self.conv_in, latents), walk)
        for block in self.up_blocks:
            x = block(x, walk)
        return walk.conv(self.conv_out, F.silu(walk.norm(self.conv_norm_out, x)))


class KlCodec(nn.Module):
    """Picture <-> scaled latents."""

    def __init__(self, spec: CodecSpec) -> None:
        super().__init__()
        channels = spec.latent_channels
        self.spec = spec
        self.encoder = Encoder(spec)
        self.decoder = Decoder(spec)
        self.quant_conv = nn.Conv2d(2 * channels, 2 * channels, 1)
        self.post_quant_conv = nn.Conv2d(channels, channels, 1)

    @property
    def steps(self) -> tuple[Step, ...]:
        """What `decode` does, as `decode_rows` plans it."""
        return self.decoder.steps

    def encode(self, image: Tensor) -> Tensor:
        """Scaled latents [n, C, R/8, R/8] of pictures [n, 3, R, R] in [-1, 1]."""
        return posterior_mode(self.encoder, self.quant_conv, image) * self.spec.scaling_factor

    def decode(self, latents: Tensor, walk: WholeWalk = WHOLE) -> Tensor:
        """Pictures [n, 3, R, R] of scaled latents, not clamped; or those rows the walk gives."""
        unscaled = self.post_quant_conv(latents / self.spec.scaling_factor)
        return self.decoder(unscaled, walk)  # type: ignore[no-any-return]


def posterior_mode(encoder: Encoder, quant_conv: nn.Conv2d, image: Tensor) -> Tensor:
    """Unscaled latents [n, C, R/8, R/8] of pictures [n, 3, R, R]: no noise is drawn."""
    mean, _ = quant_conv(encoder(image)).chunk(2, dim=1)
    return mean  # type: ignore[no-any-return]


def _resnets(channels: int, out_channels: int, layers: int, groups: int) -> nn.ModuleList:
    blocks = (
        ResnetBlock(out_channels if layer else channels, out_channels, groups)
        for layer in range(layers)
    )
    return nn.ModuleList(blocks)
