"""The files of one plan: what its maker wrote, a golden pair, and a manifest over all of them.

    manifest.json        canonical JSON: key, tolerance, every file's digest, and a digest of these
    golden.safetensors   inputs and the outputs that they gave when the plan was built
    ...                  the maker's own files

Nothing here runs code from the disk: JSON and safetensors only, never pickle.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from engine.checkpoints import file_digest
from engine.errors import PlanError
from engine.media import F32
from engine.plans.key import PlanKey, canonical_json

MANIFEST_FILE = "manifest.json"
GOLDEN_FILE = "golden.safetensors"


@dataclass(frozen=True, slots=True)
class Golden:
    """Inputs, the outputs that belong to them, and how far off others may be.

    Attributes:
        tolerance: largest |ours - golden| / |golden| in the 2-norm, of each output.
    """

    inputs: Mapping[str, F32]
    outputs: Sequence[F32]
    tolerance: float

    def check(self, outputs: Sequence[F32]) -> None:
        """Raises PlanError unless these outputs are the golden ones, within the tolerance."""
        if len(outputs) != len(self.outputs):
            raise PlanError(f"expected {len(self.outputs)} outputs, got {len(outputs)}")
        for index, (got, want) in enumerate(zip(outputs, self.outputs, strict=True)):
            if got.shape != want.shape:
                raise PlanError(f"output {index}: expected shape {want.shape}, got {got.shape}")
            norm = max(float(np.linalg.norm(want)), 1e-12)
            error = float(np.linalg.norm(got.astype(np.float64) - want)) / norm
            if not error <= self.tolerance:  # nan is refused too
                raise PlanError(
                    f"output {index} is off its golden values: expected a relative error of at "
                    f"most {self.tolerance}, got {error:.2e}"
                )


def seal(folder: Path, key: PlanKey, golden: Golden) -> None:
    """Adds golden pair and manifest to what a maker wrote, and brings all of it to the disk.

    Raises:
        OSError: the disk.
    """
    tensors = {f"input.{name}": value for name, value in golden.inputs.items()}
    for index, value in enumerate(golden.outputs):
        tensors[f"output.{index:03d}"] = np.ascontiguousarray(value)
    try:
        save_file(tensors, folder / GOLDEN_FILE)
    except SafetensorError as error:
        raise OSError(f"cannot write {folder / GOLDEN_FILE}: {error}") from error
    content = {
        "schema": key.schema_version,
        "key": key.to_dict(),
        "tolerance": golden.tolerance,
        "files": {
            path.name: {"sha256": file_digest(path), "size": path.stat().st_size}
            for path in sorted(folder.iterdir())
        },
    }
    manifest = {"content": content, "sha256": _digest(content)}
    (folder / MANIFEST_FILE).write_text(canonical_json(manifest) + "\n", encoding="ascii")
    for path in folder.iterdir():
        sync(path)
    sync(folder)


def sync(path: Path) -> None:
    """Waits until a file, or the names in a folder, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read_manifest(folder: Path) -> dict[str, Any]:
    """The content of a plan's manifest.

    Raises:
        PlanError: it is absent, or not byte for byte as it was written.
    """
    path = folder / MANIFEST_FILE
    try:
        text = path.read_text(encoding="ascii")
        manifest = json.loads(text)
        content: dict[str, Any] = manifest["content"]
        whole = text == canonical_json(manifest) + "\n" and manifest["sha256"] == _digest(content)
        # Their absence is not damage but another schema, which is the same to us.
        _ = content["key"]["component"], content["files"][GOLDEN_FILE]["sha256"]
    except OSError as error:
        raise PlanError(f"{path}: {error.strerror}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise PlanError(f"{path} is damaged: {error!r}") from error
    if not whole:
        raise PlanError(f"{path} is damaged: it is not what its digest says")
    return content


def verified_golden(folder: Path, key: PlanKey) -> Golden:
    """The golden pair of a plan whose files are all there, unaltered, and made for this key.

    Raises:
        PlanError: they are not, with the reason.
        OSError: the disk.
    """
    content = read_manifest(folder)
    wanted = key.to_dict()
    if content["key"] != wanted:
        other = [name for name in wanted if content["key"].get(name) != wanted[name]]
        raise PlanError(f"{folder} is the plan of another key: {', '.join(other)} differ")
    there = {path.name for path in folder.iterdir()} - {MANIFEST_FILE}
    if there != set(content["files"]):
        odd = sorted(there ^ set(content["files"]))
        raise PlanError(f"{folder}: missing or unexpected: {', '.join(odd)}")
    for name, entry in content["files"].items():
        path = folder / name
        if path.stat().st_size != entry["size"] or file_digest(path) != entry["sha256"]:
            raise PlanError(f"{path} is not as it was written")
    try:
        tensors = load_file(folder / GOLDEN_FILE)
    except SafetensorError as error:
        raise PlanError(f"{folder / GOLDEN_FILE}: {error}") from error
    inputs = {
        name.removeprefix("input."): value
        for name, value in tensors.items()
        if name.startswith("input.")
    }
    outputs = [tensors[name] for name in sorted(tensors) if name.startswith("output.")]
    return Golden(inputs, outputs, content["tolerance"])


def _digest(content: object) -> str:
    return hashlib.sha256(canonical_json(content).encode()).hexdigest()
