"""Ranges that are chosen from counts agree with those chosen from the numbers themselves."""

from __future__ import annotations

import pytest
import torch

from export.f8.histogram import MagnitudeHistogram
from export.f8.recipe import Recipe


@pytest.fixture
def numbers() -> torch.Tensor:
    return torch.randn(20_000, generator=torch.Generator().manual_seed(0))


def counted(*parts: torch.Tensor) -> MagnitudeHistogram:
    histogram = MagnitudeHistogram()
    for part in parts:
        histogram.add(part)
    return histogram


def test_the_largest_value_is_exact(numbers: torch.Tensor) -> None:
    assert counted(numbers).range(Recipe(method="largest")) == float(numbers.abs().max())


def test_a_percentile_lies_within_a_bin_of_the_exact_one(numbers: torch.Tensor) -> None:
    found = counted(numbers).range(Recipe(method="percentile", percentile=99.0))
    assert found == pytest.approx(float(numbers.abs().quantile(0.99)), rel=0.02)


def test_zeros_count_among_all_numbers() -> None:
    many = torch.cat([torch.zeros(90), torch.ones(10)])
    assert counted(many).range(Recipe(method="percentile", percentile=89.0)) < 1e-6


def test_a_lone_giant_is_cut_off_where_that_rounds_the_others_better() -> None:
    small = torch.full((100_000,), 0.011)
    wide = counted(torch.cat([small, torch.tensor([512.0])]))
    assert wide.range(Recipe(method="mse")) == 512.0  # cutting it would cost far more
    near = counted(torch.cat([torch.linspace(0.9, 1.0, 5_000), torch.tensor([1.02])]))
    assert near.range(Recipe(method="mse")) <= 1.02


def test_the_order_of_the_parts_changes_nothing(numbers: torch.Tensor) -> None:
    first, second = numbers[:5_000], 3 * numbers[5_000:]
    for method in ("largest", "percentile", "mse"):
        recipe = Recipe(method=method)
        assert counted(first, second).range(recipe) == counted(second, first).range(recipe)
