"""A tiny codec for Stable Diffusion's latents, under the keys of diffusers' `AutoencoderTiny`.

Its latents are the scaled ones, so its decoder can stand in for the KL
decoder: 28 GFLOP a frame of 256 pixels in place of 525. The published weights
are `madebyollin/taesd`; a decoder distilled on face crops has the same shape.

The layout is that of TAESD (github.com/madebyollin/taesd) as diffusers stores it.
"""

from __future__ import annotations

from typing import cast

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from engine.models.decode_rows import Step
from engine.models.decoder_walk import WHOLE, WholeWalk
from engine.models.kl_vae import KlCodec, posterior_mode
from engine.spec import CodecSpec

WIDTH = 64
ENCODER_BLOCKS = (1, 3, 3, 3)  # at full size, and after each halving
DECODER_BLOCKS = (3, 3, 3, 1)  # at the latents' size, and after each doubling
LARGEST_LATENT = 3.0


class TinyBlock(nn.Module):
    """Three convolutions beside the identity, no norm."""

    steps: tuple[Step, ...] = ("conv", "conv", "conv")

    def __init__(self) -> None:
        super().__init__()
        convs = [nn.Conv2d(WIDTH, WIDTH, 3, padding=1) for _ in range(3)]
        self.conv = nn.Sequential(convs[0], nn.ReLU(), convs[1], nn.ReLU(), convs[2])

    def forward(self, x: Tensor, walk: WholeWalk = WHOLE) -> Tensor:
        mark, hidden = walk.mark(), x
        for layer in self.conv:
            hidden = walk.conv(layer, hidden) if isinstance(layer, nn.Conv2d) else layer(hidden)
        return F.relu(walk.since(mark, x) + hidden)


class TaesdEncoder(nn.Module):
    """[n, 3, R, R] in [-1, 1] -> scaled latents [n, C, R/8, R/8]."""

    def __init__(self, latent_channels: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for level, blocks in enumerate(ENCODER_BLOCKS):
            if level == 0:
                layers.append(nn.Conv2d(3, WIDTH, 3, padding=1))
            else:
                layers.append(nn.Conv2d(WIDTH, WIDTH, 3, stride=2, padding=1, bias=False))
            layers.extend(TinyBlock() for _ in range(blocks))
        layers.append(nn.Conv2d(WIDTH, latent_channels, 3, padding=1))
        self.layers = nn.Sequential(*layers)

    def forward(self, image: Tensor) -> Tensor:
        return self.layers((image + 1.0) / 2.0)  # type: ignore[no-any-return]


class TaesdDecoder(nn.Module):
    """Scaled latents [n, C, s, s] -> [n, 3, R, R], or the rows of it that the walk ends with.

    Attributes:
        steps: what it does, as `decode_rows` plans it.
    """

    def __init__(self, latent_channels: int) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Conv2d(latent_channels, WIDTH, 3, padding=1), nn.ReLU()]
        steps: list[Step] = ["conv"]
        for level, blocks in enumerate(DECODER_BLOCKS):
            layers.extend(TinyBlock() for _ in range(blocks))
            steps.extend(TinyBlock.steps * blocks)
            if level < len(DECODER_BLOCKS) - 1:
                layers.append(nn.Upsample(scale_factor=2))
                layers.append(nn.Conv2d(WIDTH, WIDTH, 3, padding=1, bias=False))
                steps.append("upsample")
        layers.append(nn.Conv2d(WIDTH, 3, 3, padding=1))
        steps.append("conv")
        self.layers = nn.Sequential(*layers)
        self.steps = tuple(steps)

    def forward(self, latents: Tensor, walk: WholeWalk = WHOLE) -> Tensor:
        x = torch.tanh(latents / LARGEST_LATENT) * LARGEST_LATENT
        doubles = False
        for layer in self.layers:
            match layer:
                case nn.Conv2d():
                    x = walk.upsample(layer, x) if doubles else walk.conv(layer, x)
                case TinyBlock():
                    x = layer(x, walk)
                case nn.ReLU():
                    x = layer(x)
            doubles = isinstance(layer, nn.Upsample)  # done together with the convolution after it
        return x * 2.0 - 1.0


class TaesdCodec(nn.Module):
    """Picture <-> scaled latents, both ways tiny."""

    def __init__(self, spec: CodecSpec) -> None:
        super().__init__()
        self.spec = spec
        self.encoder = TaesdEncoder(spec.latent_channels)
        self.decoder = TaesdDecoder(spec.latent_channels)

    @property
    def steps(self) -> tuple[Step, ...]:
        """What `decode` does, as `decode_rows` plans it."""
        return self.decoder.steps

    def encode(self, image: Tensor) -> Tensor:
        """Scaled latents [n, C, R/8, R/8] of pictures [n, 3, R, R] in [-1, 1]."""
        return self.encoder(image)  # type: ignore[no-any-return]

    def decode(self, latents: Tensor, walk: WholeWalk = WHOLE) -> Tensor:
        """Pictures [n, 3, R, R] of scaled latents, not clamped; or those rows the walk gives."""
        return self.decoder(latents, walk)  # type: ignore[no-any-return]


class KlTaesdCodec(nn.Module):
    """The KL encoder, and a tiny decoder of its latents: what a distilled decoder drops into."""

    def __init__(self, kl: KlCodec, tiny: nn.ModuleDict) -> None:
        """A codec of two halves.

        Args:
            kl: of which the decoder is let go.
            tiny: what `decoder_alone` makes.
        """
        super().__init__()
        self.spec = kl.spec
        self.encoder = kl.encoder
        self.quant_conv = kl.quant_conv
        self.decoder = cast(TaesdDecoder, tiny["decoder"])

    @property
    def steps(self) -> tuple[Step, ...]:
        """What `decode` does, as `decode_rows` plans it."""
        return self.decoder.steps

    def encode(self, image: Tensor) -> Tensor:
        """Scaled latents [n, C, R/8, R/8] of pictures [n, 3, R, R] in [-1, 1]."""
        return posterior_mode(self.encoder, self.quant_conv, image) * self.spec.scaling_factor

    def decode(self, latents: Tensor, walk: WholeWalk = WHOLE) -> Tensor:
        """Pictures [n, 3, R, R] of scaled latents, not clamped; or those rows the walk gives."""
        return self.decoder(latents, walk)  # type: ignore[no-any-return]


def decoder_alone(spec: CodecSpec) -> nn.ModuleDict:
    """A `TaesdDecoder` under the keys that it has in a file: `decoder.layers. ..`."""
    return nn.ModuleDict({"decoder": TaesdDecoder(spec.latent_channels)})
