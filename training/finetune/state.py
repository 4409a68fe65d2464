"""What a run has learnt so far, on disk: checkpoints and the curve of losses.

A checkpoint is one file, whole or not there. It holds what the run has changed (trained
parameters, their average, the optimiser, the scaler of gradients) and no random state: what a
step draws is a function of its number.
"""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from engine.errors import ConfigError, ModelError

KEPT = 2
_NAME = re.compile(r"step-(\d{8})\.pt")


def save_checkpoint(folder: Path, step: int, state: Mapping[str, Any], kept: int = KEPT) -> Path:
    """The file of a checkpoint after `step` steps; all but the newest `kept` are deleted."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"step-{step:08d}.pt"
    partial = path.with_suffix(".partial")
    with partial.open("wb") as file:
        torch.save(dict(state), file)
        file.flush()
        os.fsync(file.fileno())  # before the rename, or a power cut could leave an empty file
    partial.replace(path)
    for _, old in list(_checkpoints(folder))[:-kept]:
        old.unlink()
    return path


def load_checkpoint(
    folder: Path, run: Mapping[str, Any], device: torch.device
) -> dict[str, Any] | None:
    """The newest checkpoint's state; None where there is none.

    Args:
        run: the numbers that the state depends on, as they are now.

    Raises:
        ModelError: it cannot be read.
        ConfigError: it was made under other numbers.
    """
    found = list(_checkpoints(folder))
    if not found:
        return None
    _, path = found[-1]
    try:
        state = torch.load(path, map_location=device, weights_only=True)
    except Exception as error:
        raise ModelError(f"{path}: expected a checkpoint, {error}") from error
    then = state["run"]
    changed = {key: (then.get(key), value) for key, value in run.items() if then.get(key) != value}
    if changed:
        names = ", ".join(f"{key} was {old}, is {new}" for key, (old, new) in changed.items())
        raise ConfigError(f"{path} is of another run ({names}); choose another --out to begin anew")
    return dict(state)


def _checkpoints(folder: Path) -> Iterator[tuple[int, Path]]:
    """(step, file) of all checkpoints, oldest first."""
    found = [(match, path) for path in folder.glob("*") if (match := _NAME.fullmatch(path.name))]
    for match, path in sorted(found, key=lambda item: item[1]):
        yield int(match[1]), path


class Curve:
    """Losses by step, a JSON object a line."""

    def __init__(self, path: Path, step: int) -> None:
        """The curve of a run that stands at `step`; what lies after it was lost in a crash."""
        self._path = path
        if not path.is_file():
            return
        kept = [line for line in read_curve(path) if line["step"] <= step]
        partial = path.with_suffix(".partial")
        partial.write_text("".join(json.dumps(line) + "\n" for line in kept), encoding="utf-8")
        partial.replace(path)

    def add(self, step: int, figures: Mapping[str, float]) -> None:
        # JSON has no word for what is not finite.
        plain = {name: value if math.isfinite(value) else None for name, value in figures.items()}
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"step": step, **plain}) + "\n")


def read_curve(path: Path) -> list[dict[str, Any]]:
    """The curve's lines; a last one that a crash has cut is left out."""
    lines = []
    for text in path.read_text(encoding="utf-8").splitlines():
        try:
            lines.append(json.loads(text))
        except json.JSONDecodeError:
            break
    return lines


class TrainedAverage:
    """An exponential moving average of the parameters that are trained."""

    def __init__(self, trained: Mapping[str, Tensor], decay: float) -> None:
        self.decay = decay
        self.values = {name: value.detach().clone() for name, value in trained.items()}

    @torch.no_grad()
    def update(self, trained: Mapping[str, Tensor]) -> None:
        for name, value in trained.items():
            self.values[name].lerp_(value, 1.0 - self.decay)
