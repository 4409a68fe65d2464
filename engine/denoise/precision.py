"""Which 16-bit number format a U-Net runs in: the one that lies nearer to f32."""

from __future__ import annotations

import copy

import torch
from torch import Tensor

from engine.models.unet import UNet3DConditionModel
from engine.spec import ModelSpec

TRIAL_FRAMES = 4


def relative_error(got: Tensor, want: Tensor) -> float:
    """|got - want| over |want|, as root mean squares; infinite where `got` is not finite."""
    exact = want.double()
    off = (got.double() - exact).square().mean().sqrt() / exact.square().mean().sqrt()
    return float(off) if bool(torch.isfinite(got).all()) else float("inf")


@torch.inference_mode()
def half_errors(unet: UNet3DConditionModel, spec: ModelSpec) -> dict[str, float]:
    """The largest relative error of one window over the served timesteps, by format.

    Args:
        unet: in f32, on the device that will run it.
    """
    device = next(unet.parameters()).device
    generator = torch.Generator().manual_seed(0)
    size = spec.latent_size
    shape = (1, spec.unet.in_channels, TRIAL_FRAMES, size, size)
    audio_shape = (1, TRIAL_FRAMES, spec.audio.tokens, spec.audio.width)
    sample = torch.randn(shape, generator=generator).to(device)
    audio = torch.randn(audio_shape, generator=generator).to(device)
    timesteps = [torch.tensor([float(t)], device=device) for t in spec.timesteps]
    wanted = [unet(sample, timestep, audio) for timestep in timesteps]
    errors = {}
    for name, dtype in (("f16", torch.float16), ("bf16", torch.bfloat16)):
        half = copy.deepcopy(unet).to(dtype)
        errors[name] = max(
            relative_error(half(sample.to(dtype), timestep, audio.to(dtype)), want)
            for timestep, want in zip(timesteps, wanted, strict=True)
        )
    return errors


def better_half(unet: UNet3DConditionModel, spec: ModelSpec) -> str:
    """ "f16" or "bf16", whichever errs less; f16 has more digits but overflows at 65,504."""
    errors = half_errors(unet, spec)
    return min(errors, key=lambda name: errors[name])
