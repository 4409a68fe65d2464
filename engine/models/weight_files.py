"""State dicts in files, a tensor at a time: 5 GB of weights never lie in memory twice.

`.safetensors` and zipped `.pt` files are mapped, not read; what was touched of a mapping
counts as this process's memory, so the mapping is let go of and made anew as one goes.
"""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from engine.errors import ModelError

# Checkpoints of trainers keep the weights beside other things, under one of these.
_NESTED = ("state_dict", "model_state_dict", "module", "model")
_MAPPED_BYTES = 256 << 20
_DTYPES = {
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.float8_e4m3fn: "F8_E4M3",
}


class WeightFile:
    """The state dict of a `.safetensors` file, or of a `.pt` one without running its code.

    Attributes:
        shapes: key -> shape, in the file's order.
    """

    def __init__(self, path: Path) -> None:
        """Looks at the file; no weight is read yet.

        Raises:
            ModelError: no such file, or not a state dict.
        """
        if not path.is_file():
            raise ModelError(f"expected weights in {path}, found no such file")
        self.path = path
        self._zipped = zipfile.is_zipfile(path)
        self._kept: Mapping[str, Tensor] | None = None
        self.shapes: dict[str, tuple[int, ...]] = {}
        if path.suffix == ".safetensors":
            try:
                with safe_open(path, framework="pt") as file:
                    for key in file.keys():  # noqa: SIM118  not a mapping
                        self.shapes[key] = tuple(file.get_slice(key).get_shape())
            except (SafetensorError, OSError) as error:
                raise ModelError(f"{path}: expected safetensors, {error}") from error
        else:
            weights = self._load()
            self.shapes = {key: tuple(value.shape) for key, value in weights.items()}
            if not self._zipped:  # the format before torch 1.6 cannot be mapped
                self._kept = weights

    def tensors(self, keys: Iterable[str]) -> Iterator[tuple[str, Tensor]]:
        """Each key with its tensor: a view of the file, to be copied before the next one.

        Raises:
            ModelError: the file has changed since it was looked at.
        """
        read, mapped = self._open(), 0
        for key in keys:
            if mapped > _MAPPED_BYTES:
                read, mapped = self._open(), 0
            try:
                tensor = read(key)
            except (KeyError, SafetensorError) as error:
                raise ModelError(f"{self.path}: expected {key} as before, {error}") from error
            mapped += tensor.nbytes
            yield key, tensor
            del tensor  # or it would hold the mapping that is let go of above

    def _open(self) -> Callable[[str], Tensor]:
        if self._kept is not None:
            return self._kept.__getitem__
        if self.path.suffix != ".safetensors":
            return self._load().__getitem__
        get: Callable[[str], Tensor] = safe_open(self.path, framework="pt").get_tensor
        return get

    def _load(self) -> dict[str, Tensor]:
        try:
            loaded = torch.load(self.path, map_location="cpu", weights_only=True, mmap=self._zipped)
        except Exception as error:
            raise ModelError(f"{self.path}: expected plain tensors, {error}") from error
        for name in _NESTED:
            if isinstance(loaded, dict) and isinstance(loaded.get(name), dict):
                loaded = loaded[name]
        if not isinstance(loaded, dict) or not all(isinstance(v, Tensor) for v in loaded.values()):
            kind = type(loaded).__name__
            raise ModelError(f"{self.path}: expected a dict of tensors, got {kind}")
        return loaded


def write_safetensors(
    path: Path,
    layout: Mapping[str, tuple[tuple[int, ...], torch.dtype]],
    tensors: Iterable[tuple[str, Tensor]],
) -> str:
    """The SHA-256 of a safetensors file, written while its tensors arrive.

    Args:
        layout: key -> shape and dtype (f32, f16, bf16 or 8 bits), in the order of `tensors`.
        tensors: all of them, as laid out.

    Raises:
        ValueError: a tensor that is not the one laid out.
    """
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    end = 0
    for key, (shape, dtype) in layout.items():
        start, end = end, end + torch.Size(shape).numel() * dtype.itemsize
        header[key] = {
            "dtype": _DTYPES[dtype],
            "shape": list(shape),
            "data_offsets": [start, end],
        }
    text = json.dumps(header, separators=(",", ":")).encode("utf-8")
    text += b" " * (-len(text) % 8)
    digest = hashlib.sha256()
    with path.open("wb") as file:
        for part in (len(text).to_bytes(8, "little"), text):
            digest.update(part)
            file.write(part)
        for (key, tensor), (want, (shape, dtype)) in zip(tensors, layout.items(), strict=True):
            if (key, tuple(tensor.shape), tensor.dtype) != (want, tuple(shape), dtype):
                raise ValueError(
                    f"expected {want} {shape} {dtype}, "
                    f"got {key} {tuple(tensor.shape)} {tensor.dtype}"
                )
            data = tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data
            digest.update(data)
            file.write(data)
    return digest.hexdigest()
