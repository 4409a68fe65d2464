"""Random-weight model folders, small enough to run in every test.

spec = make_tiny_model(tmp_path / "model")
spec = make_tiny_model(tmp_path / "model", onnx=True, hop_frames=2)
"""

from __future__ import annotations

import dataclasses
import hashlib
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import nn

from engine.models.build import build_audio_encoder, build_codec, build_unet
from engine.spec import AudioSpec, CodecSpec, FaceSpec, ModelSpec, UNetSpec

TINY_SPEC = ModelSpec(
    name="tiny-random",
    licence="Apache-2.0",
    resolution=32,
    audio=AudioSpec(n_mels=80, width=16, layers=1, heads=2, positions=16),
    unet=UNetSpec(
        in_channels=13,
        out_channels=4,
        block_out_channels=(8, 16),
        attention_blocks=(False, True),
        layers_per_block=1,
        attention_heads=2,
        cross_attention_dim=16,
        audio_tokens=20,
        norm_num_groups=4,
        motion_heads=2,
        motion_decoder_only=True,
        per_frame_norm=True,
        time_scale_shift=True,
        audio_film=True,
    ),
    codec=CodecSpec(kind="tiny", latent_channels=4, scaling_factor=1.0, width=8, blocks=1),
    face=FaceSpec(
        # The bundled crop: x 10.5..64.5 and y 34..88 of LatentSync's template units.
        template=(
            (6.5 * 32 / 54, -14.0 * 32 / 54),
            (47.5 * 32 / 54, -14.0 * 32 / 54),
            (27.0 * 32 / 54, 6.0 * 32 / 54),
        ),
        crop_width=32,
        crop_height=32,
        mask=(0.5, 0.55, 0.4, 0.4),
        paste="crop_mask",
    ),
    prediction_type="sample",
    timesteps=(999,),
    carry="causal",
    window_frames=16,
    hop_frames=4,
)


def randomize(module: nn.Module, seed: int) -> None:
    """Fills every weight, those that a module starts at zero included.

    Matrices keep the scale of their inputs, so that no output explodes or vanishes.
    """
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            if parameter.dim() > 1:
                parameter.copy_(noise / parameter[0].numel() ** 0.5)
            elif name.endswith("weight"):
                parameter.copy_(1.0 + 0.1 * noise)
            else:
                parameter.copy_(0.1 * noise)


def write_random_model(
    folder: Path,
    spec: ModelSpec,
    *,
    seed: int = 0,
    dtype: torch.dtype = torch.float32,
    onnx: bool = False,
) -> ModelSpec:
    """Writes a model folder with random weights.

    Args:
        folder: created; files in it are overwritten.
        dtype: what the weights are stored as.
        onnx: export the graphs too.

    Returns:
        The spec as written, with digests.
    """
    folder.mkdir(parents=True, exist_ok=True)
    modules: dict[str, nn.Module] = {
        "unet": build_unet(spec),
        "codec": build_codec(spec),
        "audio_encoder": build_audio_encoder(spec),
    }
    digests = {}
    for index, (name, module) in enumerate(modules.items()):
        randomize(module, seed * len(modules) + index)
        path = folder / f"{name}.safetensors"
        state = {
            key: value.to(dtype).contiguous().clone() for key, value in module.state_dict().items()
        }
        save_file(state, path)
        digests[path.name] = hashlib.sha256(path.read_bytes()).hexdigest()
    written = dataclasses.replace(spec, digests=digests)
    (folder / "model.json").write_text(written.to_json(), encoding="utf-8")
    if not onnx:
        return written
    from export.to_onnx import export_model

    export_model(folder)
    return ModelSpec.read(folder)


def make_tiny_model(
    folder: Path, seed: int = 0, *, onnx: bool = False, **overrides: Any
) -> ModelSpec:
    """Writes a tiny model folder: 32 px, 4x4 latents, fp32, any field to override.

    Args:
        folder: created; files in it are overwritten.
        seed: of the weights.
        onnx: export the graphs too (about three seconds).
        overrides: fields of `ModelSpec`; for nested ones pass a whole AudioSpec,
            UNetSpec, CodecSpec or FaceSpec (`dataclasses.replace(TINY_SPEC.unet, ...)`).
    """
    spec = dataclasses.replace(TINY_SPEC, **overrides)
    return write_random_model(folder, spec, seed=seed, onnx=onnx)
