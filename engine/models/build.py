"""Modules from a model's spec: with fresh weights, or with those of files."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

import torch
from torch import nn

from engine.errors import StateDictMismatch
from engine.models.kl_vae import KlCodec
from engine.models.taesd import KlTaesdCodec, TaesdCodec, decoder_alone
from engine.models.tiny_codec import TinyCodec
from engine.models.unet import UNet3DConditionModel
from engine.models.weight_files import WeightFile
from engine.models.whisper import WhisperEncoder
from engine.spec import ModelSpec

ModuleT = TypeVar("ModuleT", bound=nn.Module)
AnyCodec = TinyCodec | KlCodec | TaesdCodec | KlTaesdCodec


def build_audio_encoder(spec: ModelSpec) -> WhisperEncoder:
    """The audio encoder: `forward(mel)` gives the tokens of frames."""
    return WhisperEncoder(spec.audio)


def build_codec(spec: ModelSpec) -> AnyCodec:
    """The picture codec: `encode` and `decode`, scaled latents."""
    match spec.codec.kind, spec.codec.decoder:
        case "tiny", _:
            return TinyCodec(spec.codec)
        case "taesd", _:
            return TaesdCodec(spec.codec)
        case _, "taesd":
            return KlTaesdCodec(KlCodec(spec.codec), decoder_alone(spec.codec))
        case _:
            return KlCodec(spec.codec)


def build_unet(spec: ModelSpec) -> UNet3DConditionModel:
    """The denoiser: `forward`, `forward_hop`, `forward_clip`."""
    return UNet3DConditionModel(spec.unet)


def check_shapes(
    source: str, module: nn.Module, have: Mapping[str, tuple[int, ...]]
) -> dict[str, tuple[int, ...]]:
    """The module's own keys and shapes, in its order.

    Raises:
        StateDictMismatch: `have` differs from them.
    """
    want = {key: tuple(value.shape) for key, value in module.state_dict().items()}
    missing = sorted(want.keys() - have.keys())
    unexpected = sorted(have.keys() - want.keys())
    misshapen = {
        key: (want[key], have[key])
        for key in sorted(want.keys() & have.keys())
        if want[key] != have[key]
    }
    if missing or unexpected or misshapen:
        raise StateDictMismatch(source, missing, unexpected, misshapen)
    return want


def load_module(
    make: Callable[[], ModuleT],
    path: Path,
    device: torch.device | str = "cpu",
    dtype: torch.dtype | None = None,
) -> ModuleT:
    """What `make` builds, with the weights of `path`, ready to run.

    Memory for the weights is taken once, on `device` and in `dtype`: the module is built
    without any, and the file's tensors are cast and moved one by one.

    Args:
        dtype: None: float32.

    Raises:
        ModelError: the file cannot be read.
        StateDictMismatch: keys or shapes differ.
    """
    weights = WeightFile(path)
    with torch.device("meta"):
        module = make()
    keys = check_shapes(str(path), module, weights.shapes)
    loaded = {
        # A copy even where nothing is cast: the file may be replaced while the model runs.
        key: value.to(device, dtype or torch.float32, copy=True)
        for key, value in weights.tensors(keys)
    }
    module.load_state_dict(loaded, assign=True)
    return module.eval().requires_grad_(False)
