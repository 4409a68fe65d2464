"""A model folder made of another one, with one of its parts trained anew."""

from __future__ import annotations

import dataclasses
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from safetensors.torch import save_file
from torch import Tensor

from engine.checkpoints import MODEL_FILE, file_digest
from engine.errors import ConfigError
from engine.published import FACE_DETECTOR_FILE, FACE_LANDMARKS_FILE
from engine.spec import ModelSpec

FACE_FILES: Final = (FACE_DETECTOR_FILE, FACE_LANDMARKS_FILE)


def write_derived_model(
    source: Path, out: Path, spec: ModelSpec, trained: Mapping[str, Mapping[str, Tensor]]
) -> ModelSpec:
    """Writes the folder, `model.json` last.

    Weights that stay are linked where the file system can, since a published model has
    gigabytes of them. Graphs are left out: `export.to_onnx` writes those of the new weights.

    Args:
        source: the folder that the other parts come from.
        spec: of the new model, with the digests of the source.
        trained: file name -> weights.

    Returns:
        The spec as written.

    Raises:
        ConfigError: the folder would overwrite its own source.
    """
    if out.resolve() == source.resolve():
        raise ConfigError(f"expected another folder than the source's, got {out}")
    out.mkdir(parents=True, exist_ok=True)
    for path in sorted(source.iterdir()):
        if path.name in trained or path.name == MODEL_FILE or not _stays(path):
            continue
        target = out / path.name
        target.unlink(missing_ok=True)
        try:
            os.link(path, target)
        except OSError:  # another file system
            shutil.copyfile(path, target)
    for name, weights in trained.items():
        partial = out / f"{name}.part"
        save_file(
            {key: value.detach().cpu().contiguous() for key, value in weights.items()}, partial
        )
        partial.chmod(0o644)  # safetensors writes for the owner alone
        partial.replace(out / name)
    digests = {
        path.name: _digest(path, spec, stays=path.name not in trained)
        for path in sorted(out.iterdir())
        if _stays(path)
    }
    written = dataclasses.replace(spec, digests=digests)
    (out / MODEL_FILE).write_text(written.to_json(), encoding="utf-8")
    return written


def _stays(path: Path) -> bool:
    """Whether a file is weights, or one of the face models that lie beside them."""
    return path.suffix == ".safetensors" or path.name in FACE_FILES


def _digest(path: Path, spec: ModelSpec, *, stays: bool) -> str:
    """The file's digest; of one that stays, as its `model.json` gives it."""
    known = spec.digests.get(path.name) if stays else None
    return known or file_digest(path)
