"""Reading a folder of reference numbers, and the rule that fills its weights."""

from __future__ import annotations

import gzip
import hashlib
import json
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from benchmarks.conformance.checks import ABSENT

COMPUTED_BUFFERS = ("pos_encoder.pe", "positional_embedding")


class FixtureError(Exception):
    """A reference file that is absent, or not what it should be."""


@dataclass(slots=True)
class Case:
    """One json and the tensors beside it.

    Attributes:
        name: the file's name without its ending.
        data: the json.
        unread: names of tensors that nothing has asked for yet.
    """

    name: str
    folder: Path
    data: dict[str, Any]
    tensors: dict[str, Tensor] = field(default_factory=dict)
    unread: set[str] = field(default_factory=set)

    def get(self, path: str) -> Any:
        """The json's value at a path like "config.in_channels".

        Raises:
            FixtureError: there is none.
        """
        return lookup(self.data, path, f"{self.name}.json")

    def tensor(self, name: str) -> Tensor:
        """A stored tensor, halves widened to float32.

        Raises:
            FixtureError: there is none.
        """
        if name not in self.tensors:
            raise FixtureError(f"{self.name}.safetensors: expected a tensor {name!r}, found none")
        self.unread.discard(name)
        value = self.tensors[name]
        return value.float() if value.dtype in (torch.float16, torch.bfloat16) else value

    def array(self, name: str) -> NDArray[Any]:
        """`tensor` as numpy."""
        array: NDArray[Any] = self.tensor(name).numpy()
        return array

    def optional(self, path: str) -> Any:
        """The json's value at a path, or ABSENT."""
        return optional(self.data, path)

    def tolerance(
        self, name: str, otherwise: float, part: Mapping[str, Any] | None = None
    ) -> float:
        """The tolerance of a quantity: the json's own, where it has one.

        Args:
            name: of the quantity, as under the json's `tolerance` or `tolerances`.
            otherwise: what the README says.
            part: of the json, a subcase or a run, that is asked first.
        """
        for scope in (part or {}, self.data):
            for key in ("tolerance", "tolerances"):
                stored = scope.get(key)
                if isinstance(stored, dict):
                    stored = stored.get(name)
                if isinstance(stored, dict):
                    stored = stored.get("cpu", stored.get("CPU"))
                if isinstance(stored, int | float):
                    return float(stored)
        return otherwise


def lookup(data: Any, path: str, where: str) -> Any:
    """The value at a dotted path of nested objects.

    Raises:
        FixtureError: there is none.
    """
    for key in path.split("."):
        if not isinstance(data, dict) or key not in data:
            raise FixtureError(f"{where}: expected a value {path!r}, found none")
        data = data[key]
    return data


def optional(data: Any, path: str) -> Any:
    """The value at a dotted path of nested objects, or ABSENT."""
    try:
        return lookup(data, path, "")
    except FixtureError:
        return ABSENT


def read_json(path: Path) -> dict[str, Any]:
    """The object in a json file, compressed or not.

    Raises:
        FixtureError: no such file, or no object in it.
    """
    try:
        raw = path.read_bytes()
        text = gzip.decompress(raw) if path.suffix == ".gz" else raw
        data = json.loads(text)
    except FileNotFoundError as error:
        raise FixtureError(f"expected a file {path.name} in {path.parent}, found none") from error
    except (OSError, EOFError, zlib.error, ValueError) as error:
        raise FixtureError(f"{path.name}: expected json, {error}") from error
    if not isinstance(data, dict):
        raise FixtureError(f"{path.name}: expected a json object, got {type(data).__name__}")
    return data


def read_case(folder: Path, name: str, *, tensors: bool = True) -> Case:
    """A case's json and tensors, the tensors checked against the json's list.

    Raises:
        FixtureError: a file is absent, malformed, or the two disagree.
    """
    case = Case(name, folder, read_json(folder / f"{name}.json"))
    if not tensors:
        return case
    path = folder / f"{name}.safetensors"
    if not path.is_file():
        raise FixtureError(f"expected a file {path.name} in {folder}, found none")
    try:
        with safe_open(path, framework="pt") as file:
            case.tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise FixtureError(f"{path.name}: expected safetensors, {error}") from error
    case.unread = set(case.tensors)
    listed = case.get("tensors")
    have = {
        key: {"shape": list(value.shape), "dtype": str(value.dtype).removeprefix("torch.")}
        for key, value in case.tensors.items()
    }
    wrong = sorted(key for key in {*listed, *have} if listed.get(key) != have.get(key))
    if wrong:
        raise FixtureError(
            f"{path.name}: {wrong[0]!r} is {have.get(wrong[0], 'absent')}, "
            f"the json lists {listed.get(wrong[0], 'nothing')}"
        )
    return case


def read_picture(folder: Path, name: str) -> NDArray[np.uint8]:
    """An RGB picture [h, w, 3].

    Raises:
        FixtureError: no such file, or no picture in it.
    """
    path = folder / name
    if not path.is_file():
        raise FixtureError(f"expected a file {name} in {folder}, found none")
    raw = np.frombuffer(path.read_bytes(), np.uint8)
    decoded = cv2.imdecode(raw, cv2.IMREAD_COLOR) if raw.size else None
    if decoded is None:
        raise FixtureError(f"{name}: expected a picture, found something else")
    return np.asarray(cv2.cvtColor(decoded, cv2.COLOR_BGR2RGB), np.uint8)


def rule_value(key: str, shape: tuple[int, ...], seed: int) -> NDArray[np.float32]:
    """The weights that the rule gives to one entry of a state dict."""
    generator = np.random.default_rng(zlib.crc32(key.encode("utf-8")) ^ seed)
    value = np.asarray(generator.standard_normal(shape, dtype=np.float32))
    if len(shape) <= 1:
        tenth = np.float32(0.1) * value
        return tenth + np.float32(1.0) if key.endswith("weight") else tenth
    fan_in = float(np.prod(shape[1:], dtype=np.int64))
    return np.asarray(value / np.float32(np.sqrt(fan_in)), np.float32)


def fill_by_rule(module: nn.Module, seed: int, prefix: str = "") -> None:
    """Gives every weight of the module its rule value; computed buffers stay.

    Args:
        prefix: what goes before the module's keys where they are spelled out.
    """
    for key, value in module.state_dict().items():
        if not key.endswith(COMPUTED_BUFFERS):
            filled = rule_value(prefix + key, tuple(value.shape), seed)
            value.copy_(torch.from_numpy(np.asarray(filled)))


def state_hash(state: Mapping[str, Tensor]) -> str:
    """SHA-256 of all weights without computed buffers, in order of their keys."""
    digest = hashlib.sha256()
    for key in sorted(state):
        if not key.endswith(COMPUTED_BUFFERS):
            digest.update(key.encode("utf-8"))
            digest.update(state[key].detach().cpu().numpy().astype("<f4").tobytes())
    return digest.hexdigest()


def state_shapes(module: nn.Module) -> dict[str, list[int]]:
    """Key -> shape of a module's complete state dict."""
    return {key: list(value.shape) for key, value in module.state_dict().items()}
