"""Modules from a model's spec: with fresh weights, or with those of files."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from engine.errors import ModelError, StateDictMismatch
from engine.models.tiny_codec import TinyCodec
from engine.models.unet import UNet3DConditionModel
from engine.models.whisper import WhisperEncoder
from engine.spec import ModelSpec

ModuleT = TypeVar("ModuleT", bound=nn.Module)

# Checkpoints of trainers keep the weights beside other things, under one of these.
_NESTED = ("state_dict", "model_state_dict")


def build_audio_encoder(spec: ModelSpec) -> WhisperEncoder:
    """The audio encoder: `forward(mel)` gives the tokens of frames."""
    return WhisperEncoder(spec.audio)


def build_codec(spec: ModelSpec) -> TinyCodec:
    """The tiny codec: `encode` and `decode`, scaled latents."""
    return TinyCodec(spec.codec)


def build_unet(spec: ModelSpec) -> UNet3DConditionModel:
    """The denoiser: `forward`, `forward_hop`, `forward_clip`."""
    return UNet3DConditionModel(spec.unet)


def read_weights(path: Path) -> dict[str, Tensor]:
    """The state dict of a `.safetensors` file, or of a `.pt` one without running its code.

    Raises:
        ModelError: no such file, or not a state dict.
    """
    if not path.is_file():
        raise ModelError(f"expected weights in {path}, found no such file")
    if path.suffix == ".safetensors":
        try:
            return load_file(path)
        except SafetensorError as error:
            raise ModelError(f"{path}: expected safetensors, {error}") from error
    try:
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise ModelError(f"{path}: expected plain tensors, {error}") from error
    for name in _NESTED:
        if isinstance(loaded, dict) and isinstance(loaded.get(name), dict):
            loaded = loaded[name]
    if not isinstance(loaded, dict) or not all(isinstance(v, Tensor) for v in loaded.values()):
        raise ModelError(f"{path}: expected a dict of tensors, got {type(loaded).__name__}")
    return loaded


def check_weights(source: str, module: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Raises StateDictMismatch unless keys and shapes are the module's own."""
    want = {key: tuple(value.shape) for key, value in module.state_dict().items()}
    have = {key: tuple(value.shape) for key, value in weights.items()}
    missing = sorted(want.keys() - have.keys())
    unexpected = sorted(have.keys() - want.keys())
    misshapen = {
        key: (want[key], have[key])
        for key in sorted(want.keys() & have.keys())
        if want[key] != have[key]
    }
    if missing or unexpected or misshapen:
        raise StateDictMismatch(source, missing, unexpected, misshapen)


def load_module(make: Callable[[], ModuleT], path: Path) -> ModuleT:
    """What `make` builds, with the weights of `path`, float32, ready to run.

    Raises:
        ModelError: the file cannot be read.
        StateDictMismatch: keys or shapes differ.
    """
    weights = read_weights(path)
    with torch.device("meta"):  # no time is spent on weights that are replaced
        module = make()
    check_weights(str(path), module, weights)
    full = {key: value.to(torch.float32) for key, value in weights.items()}
    module.load_state_dict(full, assign=True)
    return module.eval().requires_grad_(False)
