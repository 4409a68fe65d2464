"""How large the numbers were that a layer read, and the range that its 8-bit input should have."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from export.f8.numbers import scale_of, through_f8
from export.f8.recipe import Recipe

# Finer than the steps of an 8-bit float, of which there are eight an octave.
BINS_AN_OCTAVE = 64
LOWEST, HIGHEST = -24, 17  # powers of two: smaller numbers count as zero, f16 has no larger ones
# Of the largest value: ranges that are tried for the least squared error.
TRIED = tuple(math.exp2(-step / 8) for step in range(33))


class MagnitudeHistogram:
    """Counts of magnitudes on a logarithmic scale; sums of whole numbers, so order is nothing."""

    def __init__(self) -> None:
        self._counts = torch.zeros((HIGHEST - LOWEST) * BINS_AN_OCTAVE, dtype=torch.int64)
        self._zeros = 0
        self.largest = 0.0

    def add(self, values: Tensor) -> None:
        """Counts the numbers of a tensor."""
        sizes = values.detach().abs().flatten().float()
        self.largest = max(self.largest, float(sizes.max()))
        sizes = sizes[sizes >= 2.0**LOWEST]
        self._zeros += values.numel() - sizes.numel()
        bins = ((sizes.log2() - LOWEST) * BINS_AN_OCTAVE).long().clamp(max=len(self._counts) - 1)
        self._counts += torch.bincount(bins, minlength=len(self._counts))

    def range(self, recipe: Recipe) -> float:
        """The largest magnitude that the 8-bit input is to hold, by the recipe's method."""
        match recipe.method:
            case "largest":
                return self.largest
            case "percentile":
                return min(self._percentile(recipe.percentile), self.largest)
            case "mse":
                return min((self.largest * part for part in TRIED), key=self._squared_error)

    def _centres(self) -> Tensor:
        steps = torch.arange(len(self._counts), dtype=torch.float64) + 0.5
        return torch.exp2(steps / BINS_AN_OCTAVE + LOWEST).float()

    def _percentile(self, percentile: float) -> float:
        """The upper end of the bin that so many percent of all numbers are in or below."""
        below = self._zeros + self._counts.cumsum(0)
        wanted = percentile / 100.0 * float(below[-1])
        index = int(torch.searchsorted(below.double(), torch.tensor(wanted, dtype=torch.float64)))
        return math.exp2((index + 1) / BINS_AN_OCTAVE + LOWEST)

    def _squared_error(self, largest: float) -> float:
        centres = self._centres().clamp(max=self.largest)
        off = through_f8(centres, scale_of(torch.tensor(largest))) - centres
        return float((self._counts * off.double() ** 2).sum())
