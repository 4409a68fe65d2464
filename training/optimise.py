"""What every training loop here needs: averaged weights, resuming, reading ahead.

A run is a number of steps, and whatever is random in a step is a function of its number: cut short
at any moment and started again, it takes the same way.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

import torch
from torch import Tensor, nn

log = logging.getLogger(__name__)

Item = TypeVar("Item")

CHECKPOINT_EVERY_S: Final = 150
LOG_EVERY: Final = 25


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
    """Numbers of one phase's training.

    Attributes:
        steps: of the whole phase. A longer one takes the same way until it begins to fall.
        fall: share of the steps in which the rate falls to a fiftieth; before, it is constant.
        seed: of everything random; a step's numbers are a function of it and the step.
    """

    steps: int
    batch: int
    rate: float
    average: float = 0.998
    warmup: int = 100
    fall: float = 0.35
    seed: int = 1


def learning_rate(recipe: Recipe, step: int) -> float:
    """Warm-up, a constant, then a line down to a fiftieth."""
    falling = max(recipe.steps * recipe.fall, 1)
    left = min((recipe.steps - step) / falling, 1.0)
    return recipe.rate * min(1.0, (step + 1) / recipe.warmup) * (0.02 + 0.98 * max(left, 0.0))


def step_generator(recipe: Recipe, step: int) -> torch.Generator:
    """The random numbers of one step, the same whenever it is taken."""
    return torch.Generator().manual_seed(recipe.seed * 10_000_019 + step)


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
        self, module: nn.Module, recipe: Recipe, groups: Iterable[dict[str, Any]], path: Path
    ) -> None:
        """A run from step 0.

        Args:
            groups: of parameters, each with `params` and its `scale` of the learning rate.
            path: of the checkpoint.
        """
        self.module, self.recipe, self.path = module, recipe, path
        self.average = Average(module, recipe.average)
        self.optimizer = torch.optim.AdamW(groups, lr=recipe.rate, weight_decay=0.01)
        self.step = 0
        self.means: dict[str, float] = {}

    def resume(self) -> None:
        """Continues from the checkpoint, where there is one."""
        if not self.path.is_file():
            return
        state = torch.load(self.path, weights_only=True)
        self.module.load_state_dict(state["module"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.average.values, self.average.steps = state["average"], state["step"]
        self.step, self.means = state["step"], state["means"]

    def save(self) -> None:
        """Writes the checkpoint, whole or not at all."""
        state = {
            "module": self.module.state_dict(),
            "average": self.average.values,
            "optimizer": self.optimizer.state_dict(),
            "step": self.step,
            "means": self.means,
        }
        partial = self.path.with_suffix(".part")
        torch.save(state, partial)
        partial.replace(self.path)

    def learn(self, total: Tensor, errors: Mapping[str, Tensor]) -> None:
        """One step down the gradient of `total`; `errors` go into the running means.

        A step whose loss is no number is reported and changes nothing.
        """
        if not torch.isfinite(total):
            found = ", ".join(f"{name} {float(error.detach())}" for name, error in errors.items())
            log.warning("step %d is left out: its loss is no number (%s)", self.step, found)
            self.step += 1
            return
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(self.recipe, self.step) * group["scale"]
        self.optimizer.zero_grad(set_to_none=True)
        total.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.module.parameters(), 1.0)
        self.optimizer.step()
        self.average.update(self.module)
        self.step += 1
        for name, error in errors.items():
            mean = self.means.get(name, 0.0)
            self.means[name] = mean + (float(error.detach()) - mean) * max(0.02, 1 / self.step)

    def steps(self, make: Callable[[int], Item], publish: Callable[[], None]) -> Iterator[Item]:
        """The batches of the steps that are left; logs, and saves now and then and at the end.

        Args:
            make: the batch of a step.
            publish: writes what the run is for, from the averaged weights.
        """
        began, first, saved = time.monotonic(), self.step, time.monotonic()
        for batch in prefetched(make, self.step):
            if self.step >= self.recipe.steps:
                return
            yield batch
            now = time.monotonic()
            if self.step % LOG_EVERY == 0:
                pace = (now - began) / max(self.step - first, 1)
                means = " ".join(f"{name} {mean:.4f}" for name, mean in self.means.items())
                log.info("step %d of %d, %.2f s: %s", self.step, self.recipe.steps, pace, means)
            if self.step >= self.recipe.steps or now - saved > CHECKPOINT_EVERY_S:
                saved = now
                self.save()
                publish()
