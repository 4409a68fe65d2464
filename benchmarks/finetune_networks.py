"""Everything that a fine-tuning step computes with, at any size, with random weights and inputs.

Works on real tensors and on torch's fake ones alike.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from engine.models.build import build_audio_encoder, build_codec, build_unet
from engine.models.syncnet import PUBLISHED_AUDIO, PUBLISHED_VISUAL, BranchSpec, StableSyncNet
from engine.spec import ModelSpec
from training.finetune.configs import FinetuneConfig, choose_trainable
from training.finetune.networks import Networks
from training.finetune.objective import Objective, StepInputs
from training.finetune.weights import PixelLosses
from training.losses.perceptual import STAGES, PerceptualLoss, StageWeights, Vgg16
from training.losses.sync import SyncLoss
from training.losses.sync_mel import N_MELS, columns_of
from training.losses.temporal import TemporalLoss
from training.losses.videomae import VideoMae, VideoMaeSpec


@dataclass(frozen=True, slots=True)
class LossSizes:
    """Of the losses' networks."""

    vgg: tuple[tuple[int, int], ...]
    sync_audio: BranchSpec
    sync_visual: BranchSpec
    video: VideoMaeSpec


PUBLISHED_LOSSES = LossSizes(STAGES, PUBLISHED_AUDIO, PUBLISHED_VISUAL, VideoMaeSpec())
TINY_LOSSES = LossSizes(
    ((8, 1), (8, 1)),
    # Two channels a group in the last block: its norm is over a single pixel.
    replace(PUBLISHED_AUDIO, block_out_channels=(*(32,) * 6, 64), attn_blocks=(False,) * 7),
    replace(PUBLISHED_VISUAL, block_out_channels=(*(32,) * 7, 64), attn_blocks=(False,) * 8),
    VideoMaeSpec(size=28, width=16, depth=2, heads=2, inner=32),
)


def synthetic_networks(
    config: FinetuneConfig,
    base: ModelSpec,
    device: torch.device,
    dtype: torch.dtype,
    sizes: LossSizes,
) -> Networks:
    """The networks of a run: the U-Net in f32, the frozen ones (but LPIPS) in `dtype`."""
    spec = replace(base, unet=config.unet_spec(base.unet))

    def frozen(make: Callable[[], nn.Module], precision: torch.dtype = dtype) -> Any:
        return _made(make, device, precision).requires_grad_(False)

    weights = config.losses
    losses = PixelLosses(
        frozen(lambda: PerceptualLoss(Vgg16(sizes.vgg), StageWeights(sizes.vgg)), torch.float32)
        if weights.perceptual
        else None,
        frozen(lambda: SyncLoss(StableSyncNet(sizes.sync_audio, sizes.sync_visual)))
        if weights.sync
        else None,
        frozen(lambda: TemporalLoss(VideoMae(sizes.video))) if weights.temporal else None,
    )
    unet: Any = _made(lambda: build_unet(spec), device, torch.float32)
    return Networks(
        spec=spec,
        unet=unet,
        trained=choose_trainable(unet, config),
        codec=frozen(lambda: build_codec(spec)),
        audio_encoder=frozen(lambda: build_audio_encoder(spec)),
        losses=losses,
        dtype=dtype,
    )


def synthetic_inputs(objective: Objective, batch: int) -> StepInputs:
    """Random pictures, sound and noise for a batch of an objective's configuration."""
    spec, frames = objective.networks.spec, objective.config.frames
    device, dtype = objective.device, objective.networks.dtype
    latents: Sequence[int] = (spec.codec.latent_channels, frames, *(spec.latent_size,) * 2)

    def random(*shape: int, precision: torch.dtype = dtype) -> Tensor:
        return torch.rand((batch, *shape), dtype=precision, device=device)

    return StepInputs(
        truth=random(frames, 3, spec.resolution, spec.resolution),
        reference=random(frames, 3, spec.resolution, spec.resolution),
        mel=random(frames, spec.audio.n_mels, spec.audio.mel_frames),
        sync_mel=random(1, N_MELS, len(columns_of(0, frames)), precision=torch.float32),
        noise=random(*latents, precision=torch.float32),
        timesteps=torch.full((batch,), 500, device=device),
    )


def _made(make: Callable[[], nn.Module], device: torch.device, dtype: torch.dtype) -> nn.Module:
    """A module whose weights are made on the device and in their type at once.

    Matrices keep the scale of their inputs, so that no output explodes or vanishes.
    """
    with torch.device("meta"):
        module = make()
    for child in module.modules():
        for name, value in child._parameters.items():
            if value is None:
                continue
            fresh = torch.empty(value.shape, dtype=dtype, device=device)
            if value.dim() > 1:
                fresh.normal_(std=value[0].numel() ** -0.5)
            else:
                fresh.fill_(1.0 if name.endswith("weight") else 0.0)
            child._parameters[name] = nn.Parameter(fresh)
        for name, table in child._buffers.items():
            if table is not None:
                child._buffers[name] = torch.ones(table.shape, dtype=dtype, device=device)
    return module.eval()
