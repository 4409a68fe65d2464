"""Published checkpoints, made into a model folder's safetensors, once.

Keys are checked against the architecture before a byte is written. Tensors are read,
cast and written one by one, so the memory this takes does not grow with the model.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from engine.checkpoints import AUDIO_ENCODER_FILE, CODEC_FILE, UNET_FILE
from engine.errors import ModelError
from engine.models.build import build_audio_encoder, build_codec, build_unet, check_shapes
from engine.models.kl_vae import KlCodec
from engine.models.weight_files import WeightFile, write_safetensors
from engine.spec import ModelSpec

Part = Literal["unet", "codec", "audio_encoder"]
StoredPrecision = Literal["f16", "f32"]

FILES: dict[Part, str] = {
    "unet": UNET_FILE,
    "codec": CODEC_FILE,
    "audio_encoder": AUDIO_ENCODER_FILE,
}
_DTYPES: dict[str, torch.dtype] = {"f16": torch.float16, "f32": torch.float32}

# Sinusoids, not weights: they are computed from positions of up to 1500, which f16 would blur.
_COMPUTED = ("pos_encoder.pe", "positional_embedding")
_POSITIONS = "encoder.positional_embedding"

# diffusers renamed the codec's attention layers in 0.18; sd-vae-ft-mse is older.
_CODEC_ATTENTION = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}


@dataclass(frozen=True, slots=True)
class _Entry:
    """One tensor to be written, and the source's key for it."""

    source: str
    shape: tuple[int, ...]
    dtype: torch.dtype


def stored_bytes(spec: ModelSpec, precision: StoredPrecision) -> int:
    """Bytes of a model folder's three weight files, headers aside."""
    total = 0
    for part in get_args(Part):
        for key, value in _blank(part, spec).state_dict().items():
            total += value.numel() * _stored_as(key, precision).itemsize
    return total


def convert_weights(
    part: Part,
    source: Path,
    folder: Path,
    spec: ModelSpec,
    precision: StoredPrecision = "f16",
    progress: Callable[[int], object] = lambda _: None,
) -> str:
    """The SHA-256 of the weights file that a published checkpoint is made into.

    Args:
        source: a `.pt` (read without running its code) or `.safetensors` file.
        folder: gets the file, under its name in a model folder.
        precision: what the weights are stored as; computed position tables stay f32.
        progress: is told the bytes of each tensor once it is written.

    Raises:
        ModelError: the source cannot be read, or a weight is not finite in `precision`.
        StateDictMismatch: its keys or shapes are not those of the architecture.
    """
    weights = WeightFile(source)
    entries = _plan(part, weights, spec, precision)
    layout = {key: (entry.shape, entry.dtype) for key, entry in entries.items()}

    def tensors() -> Iterator[tuple[str, Tensor]]:
        keys = iter(entries.items())
        for name, tensor in weights.tensors(entry.source for entry in entries.values()):
            key, entry = next(keys)
            rows = tensor[: entry.shape[0]] if key == _POSITIONS else tensor
            cast = rows.to(entry.dtype, copy=True)
            if not bool(torch.isfinite(cast).all()):
                raise ModelError(f"{source}: expected finite weights in {precision}, not {name}")
            yield key, cast
            progress(cast.nbytes)

    return write_safetensors(folder / FILES[part], layout, tensors())


def _plan(
    part: Part, weights: WeightFile, spec: ModelSpec, precision: StoredPrecision
) -> dict[str, _Entry]:
    """What to write, key by key, wide types first.

    Raises:
        StateDictMismatch: the source's keys or shapes are not those of the architecture.
    """
    sources = {_renamed(part, key): key for key in weights.shapes}
    sources.pop("", None)
    have = {key: weights.shapes[source] for key, source in sources.items()}
    if _POSITIONS in have:
        # A model may need only the first rows of the published table.
        rows, *width = have[_POSITIONS]
        have[_POSITIONS] = (min(rows, spec.audio.table_rows), *width)
    want = check_shapes(str(weights.path), _blank(part, spec), have)
    entries = {
        key: _Entry(sources[key], shape, _stored_as(key, precision)) for key, shape in want.items()
    }
    # safetensors wants every tensor aligned to its own type.
    return dict(sorted(entries.items(), key=lambda item: -item[1].dtype.itemsize))


def _renamed(part: Part, key: str) -> str:
    """The architecture's name for a published key; "" where it is dropped on purpose."""
    if part == "audio_encoder":
        return "" if key.startswith("decoder.") else key
    if part == "codec":
        head, dot, leaf = key.rpartition(".")
        owner, _, name = head.rpartition(".")
        if ".attentions." in head and name in _CODEC_ATTENTION:
            return f"{owner}.{_CODEC_ATTENTION[name]}{dot}{leaf}"
    return key


def _stored_as(key: str, precision: StoredPrecision) -> torch.dtype:
    return torch.float32 if key.endswith(_COMPUTED) else _DTYPES[precision]


def _blank(part: Part, spec: ModelSpec) -> nn.Module:
    """The architecture without memory for its weights."""
    with torch.device("meta"):
        if part == "unet":
            return build_unet(spec)
        if part == "audio_encoder":
            return build_audio_encoder(spec)
        # A tiny decoder beside it has a file of its own.
        return KlCodec(spec.codec) if spec.codec.kind == "kl" else build_codec(spec)
