"""Which rows of every layer a decoder must hold to give certain rows of the picture.

Only integers: a decoder is a sequence of steps, and a plan is the rows held
before the first step and after each. A row at a cut inside the picture is
never padded: a 3x3 convolution that is asked for rows a .. b reads a - 1 .. b + 1,
so that what comes out is what the whole picture gives.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from engine.errors import ConfigError
from engine.media import F32

# "norm" keeps the rows and pools over all of the picture's; "attention" reads and gives all rows;
# "upsample" is nearest neighbour to twice the size and a 3x3 convolution.
Step = Literal["norm", "conv", "attention", "upsample"]


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows first .. end (exclusive) of a plane that has `height` of them."""

    first: int
    end: int
    height: int

    def __post_init__(self) -> None:
        if not 0 <= self.first < self.end <= self.height:
            raise ConfigError(
                f"expected rows within 0 to {self.height}, got {self.first} to {self.end}"
            )

    @classmethod
    def all_of(cls, height: int) -> Rows:
        return cls(0, height, height)

    @classmethod
    def shown(cls, weights: F32) -> Rows:
        """The rows of a paste mask [R, R] that hold any weight.

        Raises:
            ConfigError: there are none.
        """
        rows = np.flatnonzero(weights.any(axis=1))
        if not len(rows):
            raise ConfigError("expected a mask with some weight, got none")
        return cls(int(rows[0]), int(rows[-1]) + 1, weights.shape[0])

    @property
    def count(self) -> int:
        return self.end - self.first

    @property
    def whole(self) -> bool:
        return self.count == self.height

    def grown(self, by: int) -> Rows:
        """`by` rows more on either side, as far as the plane goes."""
        return Rows(max(self.first - by, 0), min(self.end + by, self.height), self.height)

    def before(self, step: Step) -> Rows:
        """The rows that a step reads to give these."""
        match step:
            case "norm":
                return self
            case "conv":
                return self.grown(1)
            case "attention":
                return Rows.all_of(self.height)
            case "upsample":
                read = self.grown(1)
                return Rows(read.first // 2, (read.end + 1) // 2, self.height // 2)


def plan_rows(steps: Sequence[Step], wanted: Rows, whole_levels: int = 0) -> tuple[Rows, ...]:
    """The rows held before the first step and after each: len(steps) + 1 of them.

    Args:
        steps: the decoder's, in order.
        wanted: rows of the picture.
        whole_levels: so many resolutions, the lowest first, are computed whole, which keeps
            their norms free of carried moments. 0: every row that is not needed is left out.

    Raises:
        ConfigError: the picture's height does not halve as often as the decoder doubles.
    """
    doublings = steps.count("upsample")
    if wanted.height % 2**doublings:
        raise ConfigError(f"expected a multiple of {2**doublings} rows, got {wanted.height}")
    plan, level = [wanted], doublings
    for step in reversed(steps):
        if level < whole_levels:
            plan[-1] = Rows.all_of(plan[-1].height)
        plan.append(plan[-1].before(step))
        level -= step == "upsample"
    if level < whole_levels:
        plan[-1] = Rows.all_of(plan[-1].height)
    return tuple(reversed(plan))


def cut_norms(steps: Sequence[Step], plan: Sequence[Rows]) -> list[int]:
    """The steps that are norms over rows of which some are not held."""
    return [at for at, step in enumerate(steps) if step == "norm" and not plan[at].whole]
