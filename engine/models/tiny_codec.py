"""The bundled model's picture codec: a linear encoder and a narrow decoder.

A plain PCA of 8x8 patches already keeps a mouth better than a convolutional
codec of this size does after minutes of training. So the encoder is that
linear map (with an optional small branch beside it), and the decoder adds what
it learns to the linear reconstruction. Its work sits at 16x16 and 32x32 of a
128 px crop: width 64 with 2 blocks costs 0.51 GFLOP a frame.
"""

from __future__ import annotations

import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from engine.errors import ConfigError
from engine.spec import CodecSpec


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions beside the identity, no norm: cheap and batch-free."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width, width, 3, padding=1)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x + self.conv2(F.relu(self.conv1(x))))


class TinyEncoder(nn.Module):
    """[n, 3, R, R] in [-1, 1] -> [n, C, R/8, R/8], unscaled."""

    def __init__(self, spec: CodecSpec) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, spec.latent_channels, spec.downscale, stride=spec.downscale)
        self.branch: nn.Sequential | None = None
        if spec.encoder_width > 0:
            last = nn.Conv2d(spec.encoder_width, spec.latent_channels, 2, stride=2)
            nn.init.zeros_(last.weight)
            assert last.bias is not None
            nn.init.zeros_(last.bias)
            half = spec.downscale // 2
            self.branch = nn.Sequential(
                nn.Conv2d(3, spec.encoder_width, half, stride=half),
                nn.ReLU(),
                ResidualBlock(spec.encoder_width),
                last,
            )

    def forward(self, image: Tensor) -> Tensor:
        latents: Tensor = self.patches(image)
        return latents if self.branch is None else latents + self.branch(image)


class TinyDecoder(nn.Module):
    """[n, C, s, s], unscaled -> [n, 3, R, R], about [-1, 1].

    The linear skip is the transpose of the patch encoder; the learned path
    ends in zeros, so that a fresh decoder is the linear one.
    """

    def __init__(self, spec: CodecSpec) -> None:
        super().__init__()
        width, blocks = spec.width, spec.blocks
        last_factor = spec.downscale // 4
        self.linear = nn.Conv2d(spec.latent_channels, 3 * spec.downscale**2, 1)
        self.linear_shuffle = nn.PixelShuffle(spec.downscale)
        self.conv_in = nn.Conv2d(spec.latent_channels, width, 3, padding=1)
        self.blocks_low = nn.Sequential(*(ResidualBlock(width) for _ in range(blocks)))
        self.up_low = nn.Sequential(nn.Conv2d(width, 4 * width, 1), nn.PixelShuffle(2))
        self.blocks_mid = nn.Sequential(*(ResidualBlock(width) for _ in range(blocks)))
        self.up_mid = nn.Sequential(nn.Conv2d(width, 2 * width, 1), nn.PixelShuffle(2))
        self.conv_high = nn.Conv2d(width // 2, width // 2, 3, padding=1)
        self.conv_out = nn.Conv2d(width // 2, 3 * last_factor**2, 3, padding=1)
        self.out_shuffle = nn.PixelShuffle(last_factor)
        nn.init.zeros_(self.conv_out.weight)
        assert self.conv_out.bias is not None
        nn.init.zeros_(self.conv_out.bias)

    def forward(self, latents: Tensor) -> Tensor:
        x = F.relu(self.conv_in(latents))
        x = F.relu(self.up_low(self.blocks_low(x)))
        x = F.relu(self.up_mid(self.blocks_mid(x)))
        x = F.relu(x + self.conv_high(x))
        image: Tensor = self.out_shuffle(self.conv_out(x))
        return image + self.linear_shuffle(self.linear(latents))  # type: ignore[no-any-return]


class TinyCodec(nn.Module):
    """Picture <-> scaled latents."""

    def __init__(self, spec: CodecSpec) -> None:
        super().__init__()
        if spec.downscale % 4 or spec.width % 2:
            raise ConfigError(
                "tiny codec: expected a downscale that is a multiple of 4 and an even width, "
                f"got {spec.downscale} and {spec.width}"
            )
        self.spec = spec
        self.encoder = TinyEncoder(spec)
        self.decoder = TinyDecoder(spec)

    def encode(self, image: Tensor) -> Tensor:
        """Scaled latents [n, C, R/8, R/8] of pictures [n, 3, R, R] in [-1, 1]."""
        latents: Tensor = self.encoder(image)
        return latents * self.spec.scaling_factor

    def decode(self, latents: Tensor) -> Tensor:
        """Pictures [n, 3, R, R] of scaled latents, not clamped."""
        image: Tensor = self.decoder(latents / self.spec.scaling_factor)
        return image

    def set_linear(self, components: Tensor, mean: Tensor) -> None:
        """Makes the linear path the PCA with these components.

        Args:
            components: [C, 3, d, d] orthonormal patch components, d = downscale.
            mean: [3, d, d] mean patch.
        """
        channels = components.shape[0]
        flat, offset = components.reshape(channels, -1), mean.reshape(-1)
        parameters = (
            (self.encoder.patches.weight, components),
            (self.encoder.patches.bias, -(flat @ offset)),
            (self.decoder.linear.weight, flat.T[:, :, None, None]),
            (self.decoder.linear.bias, offset),
        )
        for parameter, value in parameters:
            assert parameter is not None
            parameter.data.copy_(value)
