"""What every training loop here needs: averaged weights, a clock, resuming, reading ahead."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import torch
from torch import nn

Item = TypeVar("Item")

CHECKPOINT_EVERY_S = 150


class Average:
    """An exponential moving average of a module's parameters."""

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.decay, self.steps = decay, 0
        self.values = {key: value.detach().clone() for key, value in module.state_dict().items()}

    @torch.no_grad()
    def update(self, module: nn.Module) -> None:
        self.steps += 1
        decay = min(self.decay, (1 + self.steps) / (10 + self.steps))
        for key, value in module.state_dict().items():
            if value.dtype.is_floating_point:
                self.values[key].lerp_(value, 1 - decay)


@dataclass(frozen=True, slots=True)
class Recipe:
    """Numbers of one phase's training."""

    minutes: float
    batch: int
    rate: float
    average: float = 0.998
    warmup: int = 100


class Clock:
    """Share of the phase's time that is spent, over resumes."""

    def __init__(self, minutes: float, spent_s: float = 0.0) -> None:
        self.total_s, self.before_s, self.start = 60 * minutes, spent_s, time.monotonic()

    @property
    def spent_s(self) -> float:
        return self.before_s + time.monotonic() - self.start

    @property
    def share(self) -> float:
        return min(self.spent_s / self.total_s, 1.0)


def learning_rate(recipe: Recipe, step: int, share: float) -> float:
    """Warm-up, then a cosine to a fiftieth."""
    return (
        recipe.rate
        * min(1.0, (step + 1) / recipe.warmup)
        * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * share)))
    )


def prefetched(make: Callable[[int], Item], first: int) -> Iterator[Item]:
    """make(first), make(first + 1), ..., one ahead in a thread."""
    with ThreadPoolExecutor(1) as pool:
        ahead = pool.submit(make, first)
        number = first
        while True:
            number += 1
            current, ahead = ahead, pool.submit(make, number)
            yield current.result()


class Run:
    """A module in training, its average and optimiser, and how far it has come."""

    def __init__(
        self, module: nn.Module, average: Average, optimizer: torch.optim.Optimizer, path: Path
    ) -> None:
        self.module, self.average, self.optimizer, self.path = module, average, optimizer, path
        self.step, self.spent_s = 0, 0.0

    def resume(self) -> None:
        """Continues from the checkpoint, where there is one."""
        if not self.path.is_file():
            return
        state = torch.load(self.path, weights_only=True)
        self.module.load_state_dict(state["module"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.average.values, self.average.steps = state["average"], state["step"]
        self.step, self.spent_s = state["step"], state["spent_s"]

    def save(self) -> None:
        """Writes the checkpoint, whole or not at all."""
        state = {
            "module": self.module.state_dict(),
            "average": self.average.values,
            "optimizer": self.optimizer.state_dict(),
            "step": self.step,
            "spent_s": self.spent_s,
        }
        partial = self.path.with_suffix(".part")
        torch.save(state, partial)
        partial.replace(self.path)
