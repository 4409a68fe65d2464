"""The calls that a pass of the U-Net makes of the layers for which there are candidates."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from engine.models.build import build_unet
from engine.models.resnet import FrameGroupNorm
from engine.models.temporal import TemporalAttention
from engine.spec import ModelSpec


@dataclass(frozen=True, slots=True)
class NormShape:
    """One shape of a pooled norm: frames of all sessions [n, channels, size, size]."""

    channels: int
    size: int
    groups: int


@dataclass(frozen=True, slots=True)
class AttentionShape:
    """One shape of a temporal attention: a frame's pixels, channels in so many heads."""

    pixels: int
    channels: int
    heads: int


@dataclass(frozen=True, slots=True)
class LinearShape:
    """One shape of a linear layer, for so many rows a frame."""

    rows: int
    inputs: int
    outputs: int


@dataclass(frozen=True, slots=True)
class Workloads:
    """How often each shape occurs in one pass over one frame."""

    norms: Counter[NormShape]
    attentions: Counter[AttentionShape]
    linears: Counter[LinearShape]


def workloads_of(spec: ModelSpec) -> Workloads:
    """The shapes of the spec's U-Net, found by running it on the meta device."""
    with torch.device("meta"):
        unet = build_unet(spec)
    found = Workloads(Counter(), Counter(), Counter())

    def note(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        x = inputs[0]
        if isinstance(module, FrameGroupNorm):
            found.norms[NormShape(x.shape[1], x.shape[2], module.num_groups)] += 1
        elif isinstance(module, TemporalAttention):
            found.attentions[AttentionShape(x.shape[2], x.shape[3], module.heads)] += 1
        elif isinstance(module, nn.Linear):
            rows = x.numel() // module.in_features
            found.linears[LinearShape(rows, module.in_features, module.out_features)] += 1

    for module in unet.modules():
        module.register_forward_hook(note)
    size = spec.latent_size
    with torch.inference_mode(), torch.device("meta"):
        unet(
            torch.empty(1, spec.unet.in_channels, 1, size, size),
            torch.empty(1),
            torch.empty(1, 1, spec.audio.tokens, spec.audio.width),
        )
    return found
