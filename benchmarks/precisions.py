"""The same model in other number formats, and how far their outputs lie from f32's."""

from __future__ import annotations

import copy
import dataclasses
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from benchmarks.kernels.fp8_linear import replace_linears
from engine.denoise.model import DTYPES, TorchModel
from engine.spec import ModelSpec

PRECISIONS = ("bf16", "f16", "fp8")
FP8_BESIDE = "bf16"  # what is not a linear layer of the U-Net runs in this, in "fp8"


def in_precision(model: TorchModel, precision: str) -> TorchModel:
    """A copy of the model in another precision; "fp8" has the U-Net's linear layers in 8 bits."""
    name = FP8_BESIDE if precision == "fp8" else precision
    dtype = DTYPES[name]
    unet = copy.deepcopy(model.unet).to(dtype)
    if precision == "fp8":
        replace_linears(unet)
    return dataclasses.replace(
        model,
        unet=unet,
        codec=copy.deepcopy(model.codec).to(dtype),
        audio_encoder=copy.deepcopy(model.audio_encoder).to(dtype),
        precision=name,
    )


@dataclass(frozen=True, slots=True)
class Distance:
    """How far an output lies from the reference.

    Attributes:
        relative: root mean square of the difference over that of the reference.
        largest: largest difference over the largest reference.
        psnr_db: peak, from the reference's lowest to its highest value, over the rms difference;
            None where nothing differs.
        finite: no infinity and no NaN; without it the others are None.
    """

    relative: float | None
    largest: float | None
    psnr_db: float | None
    finite: bool

    @classmethod
    def of(cls, got: Tensor, want: Tensor) -> Distance:
        """The distance of `got` from `want`."""
        exact, off = want.double(), got.double() - want.double()
        if not bool(torch.isfinite(off).all()):
            return cls(None, None, None, False)
        rms = float(off.square().mean().sqrt())
        peak = float(exact.max() - exact.min())
        return cls(
            relative=rms / float(exact.square().mean().sqrt()),
            largest=float(off.abs().max() / exact.abs().max()),
            psnr_db=20.0 * math.log10(peak / rms) if rms and peak else None,
            finite=True,
        )


Component = Callable[[TorchModel], Tensor]


def components(spec: ModelSpec, device: torch.device, frames: int = 4) -> dict[str, Component]:
    """The model's parts as functions of the model, each on random inputs of its own.

    "unet hop" sees full rings of random keys, values and moments; "unet window" sees a window
    whole; both at every served timestep.
    """
    generator = torch.Generator().manual_seed(0)

    def random(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator).to(device)

    size, context = spec.latent_size, spec.window_frames - frames
    mel = random(frames, spec.audio.n_mels, spec.audio.mel_frames)
    image = random(frames, 3, spec.resolution, spec.resolution).tanh()
    latents = random(frames, spec.codec.latent_channels, size, size)
    tokens = (spec.audio.tokens, spec.audio.width)
    hop_sample = random(1, spec.unet.in_channels, frames, size, size)
    hop_tokens = random(1, frames, *tokens)
    sample = random(1, spec.unet.in_channels, spec.window_frames, size, size)
    window_tokens = random(1, spec.window_frames, *tokens)
    times = [torch.full((1,), float(t), device=device) for t in spec.timesteps]
    valid = torch.ones(1, context, device=device)

    def unet_hop(model: TorchModel) -> Tensor:
        keyed = torch.Generator().manual_seed(1)
        shapes: Sequence[tuple[int, ...]] = model.unet.ring_shapes(size)
        rings = [
            torch.randn(1, 2, context, *rest, generator=keyed).to(device, model.dtype)
            for rest in shapes
        ]
        # Moments are a mean and a variance, and stay in f32.
        rings += [
            torch.rand(1, 2, context, groups, generator=keyed).to(device)
            for groups in model.unet.moment_shapes()
        ]
        inputs = hop_sample.to(model.dtype), hop_tokens.to(model.dtype)
        outs = [model.unet.forward_hop(inputs[0], t, inputs[1], valid, rings)[0] for t in times]
        return torch.stack(outs)

    def unet_window(model: TorchModel) -> Tensor:
        inputs = sample.to(model.dtype), window_tokens.to(model.dtype)
        return torch.stack([model.unet(inputs[0], t, inputs[1]) for t in times])

    return {
        "audio encoder": lambda model: model.audio_encoder(mel.to(model.dtype)),
        "unet hop": unet_hop,
        "unet window": unet_window,
        "codec encode": lambda model: model.codec.encode(image.to(model.dtype)),
        "codec decode": lambda model: model.codec.decode(latents.to(model.dtype)),
    }
