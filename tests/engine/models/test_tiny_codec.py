"""The tiny codec starts as the PCA it is given and stays cheap."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from engine.errors import ConfigError
from engine.models.tiny_codec import TinyCodec
from engine.spec import CodecSpec

SPEC = CodecSpec(kind="tiny", latent_channels=12, scaling_factor=0.5, encoder_width=16)


def components() -> torch.Tensor:
    torch.manual_seed(0)
    basis, _ = torch.linalg.qr(torch.randn(192, 12))
    reshaped: torch.Tensor = basis.T.reshape(12, 3, 8, 8)
    return reshaped


def test_a_fresh_codec_is_the_pca() -> None:
    codec = TinyCodec(SPEC)
    codec.set_linear(components(), torch.full((3, 8, 8), 0.1))
    latents = torch.randn(2, 12, 4, 4) * SPEC.scaling_factor
    with torch.no_grad():
        image = codec.decode(latents)
        assert image.shape == (2, 3, 32, 32)
        assert torch.allclose(codec.encode(image), latents, atol=1e-5)
        flat = torch.full((1, 3, 32, 32), 0.1)
        assert codec.encode(flat).abs().max() < 1e-6


def test_a_frame_of_128_pixels_stays_under_its_budget() -> None:
    codec = TinyCodec(SPEC)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        codec.decode(codec.encode(torch.zeros(1, 3, 128, 128)))
    assert counter.get_total_flops() < 0.8e9


def test_odd_shapes_are_refused() -> None:
    with pytest.raises(ConfigError, match="expected a downscale that is a multiple of 4"):
        TinyCodec(dataclasses.replace(SPEC, downscale=6))
