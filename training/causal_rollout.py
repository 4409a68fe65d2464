"""A model's own outputs over a clip: hop by hop as a stream makes them, or in whole windows.

Three ways give a network's prediction for a clip of F frames; all take and return the same
tensors:

    `clip_forward`     blocks of h frames, one pass: gradients flow back through what is carried
    `stream_forward`   the same values hop by hop through rings, which are taken as they come:
                       memory of one hop at a time, so that streams can be long
    `window_forward`   windows in which all frames see all frames, cross-faded: the teacher

`Denoising` runs the served steps of a model with any of them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from engine.models.unet import UNet3DConditionModel
from engine.sampler import Sampler, predict_x0
from engine.spec import ModelSpec
from training.model_crops import ClipLatents

Forward = Callable[[Tensor, Tensor, Tensor], Tensor]
"""[b, prediction_channels, F, s, s] of sample [b, in_channels, F, s, s], timestep [b] and audio
[b, F, tokens, width]."""


def clip_forward(unet: UNet3DConditionModel, hop: int, window: int) -> Forward:
    """Every hop of a stream from its start, in one pass."""

    def forward(sample: Tensor, timestep: Tensor, audio: Tensor) -> Tensor:
        return unet.forward_clip(sample, timestep, audio, hop, window)

    return forward


def stream_forward(
    unet: UNet3DConditionModel, hop: int, window: int, learn_from: int = 0
) -> Forward:
    """Every hop of a stream from its start, one after the other.

    Args:
        learn_from: frames before this one have no gradients; a multiple of the hop.
    """
    context = window - hop

    def forward(sample: Tensor, timestep: Tensor, audio: Tensor) -> Tensor:
        batch, size = len(sample), sample.shape[-1]
        entries = [*unet.ring_shapes(size), *((groups,) for groups in unet.moment_shapes())]
        rings = [sample.new_zeros(batch, 2, context, *entry) for entry in entries]
        valid = sample.new_zeros(batch, context)
        parts = []
        for first in range(0, sample.shape[2], hop):
            rows = slice(first, first + hop)
            with torch.set_grad_enabled(first >= learn_from and torch.is_grad_enabled()):
                out, new = unet.forward_hop(
                    sample[:, :, rows], timestep, audio[:, rows], valid, rings
                )
            parts.append(out)
            rings = [
                torch.cat([ring, entry.detach()], dim=2)[:, :, hop:]
                for ring, entry in zip(rings, new, strict=True)
            ]
            valid = torch.cat([valid, valid.new_ones(batch, hop)], dim=1)[:, hop:]
        return torch.cat(parts, dim=2)

    return forward


def window_forward(unet: UNet3DConditionModel, window: int) -> Forward:
    """What a bidirectional network says of a clip of at least a window, without seams of its own.

    Windows lie half a window apart, and each counts most in its middle.
    """

    def forward(sample: Tensor, timestep: Tensor, audio: Tensor) -> Tensor:
        frames = sample.shape[2]
        last = frames - window
        places = torch.arange(window, device=sample.device)
        ramp = torch.minimum(places + 1, window - places).to(sample.dtype)
        total: Tensor | None = None
        share = sample.new_zeros(frames)
        for first in sorted({*range(0, last, max(window // 2, 1)), last}):
            rows = slice(first, first + window)
            out = unet(sample[:, :, rows], timestep, audio[:, rows]).to(sample.dtype)
            if total is None:
                total = out.new_zeros(*out.shape[:2], frames, *out.shape[3:])
            total[:, :, rows] += ramp[:, None, None] * out
            share[rows] += ramp
        assert total is not None
        return total / share[:, None, None]

    return forward


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a network makes of noisy latents at one served step.

    Attributes:
        noisy: [b, C, F, s, s] what it was given.
        clean: [b, C, F, s, s] the clean latents that its prediction stands for.
        warp: [b, 18 or 0, F, s, s] how the source moves, where the network says so.
    """

    noisy: Tensor
    clean: Tensor
    warp: Tensor


class Denoising:
    """The served steps of a model, over clips."""

    def __init__(self, spec: ModelSpec) -> None:
        self._sampler = Sampler(spec)
        self._channels = spec.unet.out_channels

    @property
    def noises(self) -> int:
        """Fixed noises that a session needs."""
        return self._sampler.noises

    def estimate(self, forward: Forward, step: int, noisy: Tensor, clip: ClipLatents) -> Estimate:
        """One network's estimate at step `step`."""
        prediction, warp = self._predict(forward, step, noisy, clip)
        return Estimate(noisy, self._clean(step, noisy, prediction), warp)

    def rollout(self, forward: Forward, clip: ClipLatents, noise: Tensor) -> list[Estimate]:
        """The estimates of all steps, each from what the network itself made of the step before.

        No gradient runs from one step into the one before: each learns from where it stands.

        Args:
            noise: [b, noises, C, s, s] a session's own, the same in all frames.
        """
        noisy = noise[:, 0, :, None].expand_as(clip.whole)
        estimates = []
        for step in range(len(self._sampler.timesteps)):
            prediction, warp = self._predict(forward, step, noisy, clip)
            estimates.append(Estimate(noisy, self._clean(step, noisy, prediction), warp))
            following = noise[:, min(step + 1, noise.shape[1] - 1), :, None]
            noisy = self._sampler.step(step, noisy, prediction.detach(), following)
        return estimates

    def _predict(
        self, forward: Forward, step: int, noisy: Tensor, clip: ClipLatents
    ) -> tuple[Tensor, Tensor]:
        value = float(self._sampler.timesteps[step])
        timestep = torch.full((len(noisy),), value, device=noisy.device)
        out = forward(clip.network_input(noisy), timestep, clip.tokens).float()
        return out[:, : self._channels], out[:, self._channels :]

    def _clean(self, step: int, noisy: Tensor, prediction: Tensor) -> Tensor:
        alpha = self._sampler.alphas[step]
        return predict_x0(noisy, prediction, alpha, self._sampler.prediction_type)
