"""Modules with fresh weights, from a model's spec."""

from __future__ import annotations

from torch import nn

from engine.models.tiny_codec import TinyCodec
from engine.models.unet import UNet3DConditionModel
from engine.models.whisper import WhisperEncoder
from engine.spec import ModelSpec


def build_audio_encoder(spec: ModelSpec) -> WhisperEncoder:
    """The audio encoder: `forward(mel)` gives the tokens of frames."""
    return WhisperEncoder(spec.audio)


def build_codec(spec: ModelSpec) -> TinyCodec:
    """The picture codec: `encode` and `decode`, scaled latents."""
    return TinyCodec(spec.codec)


def build_unet(spec: ModelSpec) -> UNet3DConditionModel:
    """The denoiser: `forward`, `forward_hop`, `forward_clip`."""
    return UNet3DConditionModel(spec.unet)


def parameter_count(module: nn.Module) -> int:
    """Number of trained values in `module`."""
    return sum(parameter.numel() for parameter in module.parameters())
