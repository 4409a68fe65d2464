"""The result as a model folder, which `lipwire render --model FOLDER` takes."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from engine.checkpoints import MODEL_FILE, UNET_FILE, file_digest
from engine.errors import ModelError
from engine.models.build import build_unet
from engine.models.weight_files import WeightFile, write_safetensors
from engine.spec import ModelSpec


def write_model(base: Path, spec: ModelSpec, trained: Mapping[str, Tensor], folder: Path) -> None:
    """Writes a model folder: the base's files, with the trained weights in the place of its own.

    The base's other weights are copied as they are stored; trained ones are stored in the same
    precision. The folder is there whole or not at all.

    Raises:
        ModelError: a weight is not finite in that precision.
    """
    making = folder.with_name(f".{folder.name}.making")
    old = folder.with_name(f".{folder.name}.old")
    for leftover in (making, old):
        shutil.rmtree(leftover, ignore_errors=True)
    making.mkdir(parents=True)
    for path in base.iterdir():
        if path.is_file() and path.name not in (MODEL_FILE, UNET_FILE, "source.json"):
            shutil.copyfile(path, making / path.name)
    digest = _write_unet(base / UNET_FILE, spec, trained, making / UNET_FILE)
    listed = ModelSpec.read(base).digests
    digests = {
        name: digest if name == UNET_FILE else file_digest(making / name)
        for name in (listed or {UNET_FILE: ""})
    }
    text = replace(spec, digests=digests).to_json()
    (making / MODEL_FILE).write_text(text, encoding="utf-8")
    if folder.exists():
        folder.rename(old)
    making.rename(folder)
    shutil.rmtree(old, ignore_errors=True)


def _write_unet(source: Path, spec: ModelSpec, trained: Mapping[str, Tensor], path: Path) -> str:
    """The SHA-256 of the U-Net's file: keys of `spec`, each in the source's precision."""
    weights = WeightFile(source)
    with torch.device("meta"):
        wanted = build_unet(spec).state_dict().keys()
    kept = [key for key in weights.shapes if key in wanted]
    dtypes = {key: tensor.dtype for key, tensor in weights.tensors(kept)}
    # safetensors wants every tensor aligned to its own type: wide ones first.
    keys = sorted(kept, key=lambda key: -dtypes[key].itemsize)
    layout = {key: (weights.shapes[key], dtypes[key]) for key in keys}

    def tensors() -> Iterator[tuple[str, Tensor]]:
        for key, stored in weights.tensors(keys):
            if key not in trained:
                yield key, stored
                continue
            cast = trained[key].detach().to("cpu", stored.dtype)
            if not bool(torch.isfinite(cast).all()):
                raise ModelError(f"expected finite weights in {stored.dtype}, not {key}")
            yield key, cast

    return write_safetensors(path, layout, tensors())
