"""LatentSync the way it is published, over the same networks: what ours is measured against.

Disjoint windows of 16 frames, 20 DDIM steps of leading spacing, guidance 1.5 against zero audio
features at every step, two codec encodings a frame, whole pictures decoded, nothing compiled or
captured. Sound costs nothing here: upstream encodes it 30 s at a time, before the first frame.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from benchmarks.hop_flops import FlopCounter
from engine.denoise.model import TorchModel
from engine.face.mask import mask_image, mask_latents
from engine.models.frame_windows import FrameWindows
from engine.models.resnet import FrameGroupNorm
from engine.models.unet import UNet3DConditionModel
from engine.sampler import Sampler, guide, leading_timesteps
from engine.spec import ModelSpec

UPSTREAM_STEPS = 20
UPSTREAM_GUIDANCE = 1.5
UPSTREAM_WINDOW_FRAMES = 16


def upstream_spec(spec: ModelSpec, steps: int = UPSTREAM_STEPS) -> ModelSpec:
    """The model run as upstream runs it."""
    return dataclasses.replace(
        spec,
        carry="disjoint",
        timesteps=tuple(leading_timesteps(steps)),
        solver="ddim",
        start="noise",
        refresh_hops=0,
        reference="frame",
        window_frames=UPSTREAM_WINDOW_FRAMES,
        hop_frames=UPSTREAM_WINDOW_FRAMES,
        guidance_scale=UPSTREAM_GUIDANCE,
        guided_steps=None,
    )


class Upstream:
    """Windows of 16 frames, from face crops to face crops.

    Args:
        model: its networks are shared, not changed.
        steps: 20 as published; fewer for tests.
    """

    def __init__(self, model: TorchModel, spec: ModelSpec, steps: int = UPSTREAM_STEPS) -> None:
        self.spec = upstream_spec(spec, steps)
        self._model = model
        self._sampler = Sampler(self.spec)
        self._keep = torch.from_numpy(mask_image(spec)).to(model.device, model.dtype)
        self._mask = torch.from_numpy(mask_latents(spec)).to(model.device, model.dtype)

    @torch.inference_mode()
    def run_window(self, crops: Tensor, tokens: Tensor, noise: Tensor) -> Tensor:
        """The generated crops of one window.

        Args:
            crops: uint8 [f, 3, R, R] on the device.
            tokens: [f, tokens, width] audio.
            noise: [C, s, s], one frame's, the same for every frame and window.

        Returns:
            uint8 [f, 3, R, R]
        """
        model, frames = self._model, len(crops)
        image = (crops.float() / 127.5 - 1.0).to(model.dtype)
        masked = model.codec.encode(image * self._keep)
        reference = model.codec.encode(image)
        faces = torch.stack([masked, reference]).transpose(1, 2)  # [2, C, f, s, s]
        mask = self._mask.expand(1, 1, frames, -1, -1)
        latents = noise[None, :, None].expand(1, -1, frames, -1, -1).to(model.latents_dtype)
        audio = torch.stack([torch.zeros_like(tokens), tokens])
        with native_norms(model.unet):
            for step, timestep in enumerate(self.spec.timesteps):
                parts = [latents.to(model.dtype), mask, faces[:1], faces[1:]]
                sample = torch.cat(parts, dim=1).expand(2, -1, -1, -1, -1)
                time = torch.full((2,), float(timestep), device=crops.device)
                without, spoken = model.unet(sample, time, audio).to(latents.dtype).split(1)
                prediction = guide(without, spoken, self.spec.guidance_scale)
                latents = self._sampler.step(step, latents, prediction)
        decoded = model.codec.decode(latents[0].transpose(0, 1).to(model.dtype))
        kept = decoded * (1.0 - self._keep) + image * self._keep
        return (kept.float() * 127.5 + 128.0).clamp(0.0, 255.0).to(torch.uint8)

    def random_window(self, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
        """Random arguments of `run_window`."""
        spec, model = self.spec, self._model
        generator = torch.Generator().manual_seed(seed)
        frames, size = spec.window_frames, spec.resolution
        crops = torch.randint(0, 256, (frames, 3, size, size), generator=generator)
        tokens = torch.randn(frames, spec.audio.tokens, spec.audio.width, generator=generator)
        latent = (spec.codec.latent_channels, spec.latent_size, spec.latent_size)
        noise = torch.randn(latent, generator=generator)
        device = model.device
        return (
            crops.to(device, torch.uint8),
            tokens.to(device, model.dtype),
            noise.to(device, model.latents_dtype),
        )


def upstream_flops(counter: FlopCounter, spec: ModelSpec, steps: int = UPSTREAM_STEPS) -> int:
    """Operations of one window of upstream's, its sound left out."""
    way = upstream_spec(spec, steps)
    flops = counter.hop(way, way.hop_frames)
    return flops.unet + flops.decode + flops.encode


@contextmanager
def native_norms(unet: UNet3DConditionModel) -> Iterator[None]:
    """Pooled norms as upstream runs them: torch's own over 5-D tensors, one kernel a norm."""
    norms = [m for m in unet.modules() if isinstance(m, FrameGroupNorm) and not m.per_frame]
    for norm in norms:
        norm.forward = partial(_native, norm)  # type: ignore[method-assign]
    try:
        yield
    finally:
        for norm in norms:
            del norm.forward


def _native(norm: FrameGroupNorm, x: Tensor, windows: FrameWindows) -> Tensor:
    clip = x.reshape(-1, windows.frames, *x.shape[1:]).transpose(1, 2)
    normed = F.group_norm(clip, norm.num_groups, norm.weight, norm.bias, norm.eps)
    return normed.transpose(1, 2).flatten(0, 1)
