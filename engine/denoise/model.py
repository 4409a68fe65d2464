"""A model's three networks on one device: immutable, shared by every session and backend."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor, nn

from engine.checkpoints import load_audio_encoder, load_codec, load_unet
from engine.denoise.precision import better_half
from engine.errors import BackendError
from engine.models.build import AnyCodec, build_audio_encoder, build_codec, build_unet
from engine.models.temporal import position_table
from engine.models.unet import UNet3DConditionModel
from engine.models.whisper import WhisperEncoder, sinusoids
from engine.spec import ModelSpec

DTYPES = {
    "f64": torch.float64,
    "f32": torch.float32,
    "bf16": torch.bfloat16,
    "f16": torch.float16,
}

ModuleT = TypeVar("ModuleT", bound=nn.Module)


@dataclass(frozen=True, slots=True)
class TorchModel:
    """Weights that are ready to run.

    Attributes:
        precision: of the weights, a key of `DTYPES`.
    """

    unet: UNet3DConditionModel
    codec: AnyCodec
    audio_encoder: WhisperEncoder
    device: torch.device
    precision: str

    @property
    def dtype(self) -> torch.dtype:
        return DTYPES[self.precision]

    @property
    def latents_dtype(self) -> torch.dtype:
        """Of latents between steps: at least f32, whatever the network runs in."""
        return torch.promote_types(self.dtype, torch.float32)

    @classmethod
    def load(
        cls, model_dir: Path, device: torch.device, precision: str | None = None
    ) -> TorchModel:
        """The model of a folder.

        Args:
            precision: a key of `DTYPES`; None: f32 on a CPU, and on CUDA whichever of f16 and
                bf16 lies nearer to f32.

        Raises:
            ConfigError: `model.json` is absent or wrong.
            ModelError: weights are missing or do not fit.
            BackendError: an unknown precision.
        """
        spec = ModelSpec.read(model_dir)
        if precision is not None and precision not in DTYPES:
            raise BackendError(f"expected a precision of {tuple(DTYPES)}, got {precision!r}")
        chosen = precision
        if chosen is None:
            # The f32 weights of the comparison are gone before the others are read.
            cuda = device.type != "cpu"
            chosen = better_half(load_unet(model_dir, spec, device), spec) if cuda else "f32"
        dtype = DTYPES[chosen]
        return cls(
            load_unet(model_dir, spec, device, dtype),
            load_codec(model_dir, spec, device, dtype),
            load_audio_encoder(model_dir, spec, device, dtype),
            device,
            chosen,
        )

    @classmethod
    def random(
        cls, spec: ModelSpec, device: torch.device, precision: str, seed: int = 0
    ) -> TorchModel:
        """Synthetic weights of a model's size, made on the device in the wished precision.

        Matrices keep the scale of their inputs, so that no output explodes or vanishes; for
        timing and for tests of numerics, which need no trained weights.
        """
        dtype = DTYPES[precision]
        with torch.device("meta"):
            unet, codec = build_unet(spec), build_codec(spec)
            audio_encoder = build_audio_encoder(spec)
        generator = torch.Generator(device).manual_seed(seed)
        return cls(
            _filled(unet, device, dtype, generator),
            _filled(codec, device, dtype, generator),
            _filled(audio_encoder, device, dtype, generator),
            device,
            precision,
        )


def _filled(
    module: ModuleT, device: torch.device, dtype: torch.dtype, generator: torch.Generator
) -> ModuleT:
    state: dict[str, Tensor] = {}
    for name, value in module.state_dict().items():
        if name.endswith("pos_encoder.pe"):
            state[name] = position_table(value.shape[2], value.shape[1]).to(device, dtype)
            continue
        if name.endswith("positional_embedding"):
            state[name] = sinusoids(*value.shape).to(device, dtype)
            continue
        fresh = torch.empty(value.shape, dtype=dtype, device=device).normal_(generator=generator)
        if value.dim() > 1:
            fresh /= value[0].numel() ** 0.5
        else:
            fresh *= 0.1
            fresh += 1.0 if name.endswith("weight") else 0.0
        state[name] = fresh
    module.load_state_dict(state, assign=True)
    return module.eval().requires_grad_(False)
