"""The Stable Diffusion picture codec, through diffusers.

LatentSync reads `stabilityai/sd-vae-ft-mse`. Upstream samples the encoder's
posterior, which puts new noise into every frame; here its mode is taken.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from diffusers import AutoencoderKL
from torch import Tensor, nn

from engine.spec import CodecSpec

SD_VAE_CONFIG: dict[str, Any] = {
    "block_out_channels": (128, 256, 512, 512),
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "layers_per_block": 2,
}


class KlCodec(nn.Module):
    """Picture <-> scaled latents. Weights are those of `vae`, under its own keys."""

    def __init__(self, spec: CodecSpec, config: Mapping[str, Any] = SD_VAE_CONFIG) -> None:
        """A codec with fresh weights.

        Args:
            config: further arguments of diffusers' `AutoencoderKL`.
        """
        super().__init__()
        self.spec = spec
        arguments = {"latent_channels": spec.latent_channels, **config}
        self.vae: Any = AutoencoderKL(**arguments)  # type: ignore[no-untyped-call]

    def encode(self, image: Tensor) -> Tensor:
        """Scaled latents [n, C, R/8, R/8] of pictures [n, 3, R, R] in [-1, 1]."""
        latents: Tensor = self.vae.encode(image).latent_dist.mode()
        return latents * self.spec.scaling_factor

    def decode(self, latents: Tensor) -> Tensor:
        """Pictures [n, 3, R, R] of scaled latents, not clamped."""
        decoded = self.vae.decode(latents / self.spec.scaling_factor)
        image: Tensor = decoded.sample
        return image
