"""8-bit floats with a scale: nothing goes over the end, and rounding is what the format allows."""

from __future__ import annotations

import torch

from export.f8.numbers import (
    LARGEST,
    SMALLEST_SCALE,
    along_outputs,
    scale_of,
    through_f8,
    to_f8,
    weight_scale,
)


def test_the_largest_magnitude_stays_within_the_format_whatever_the_scale_rounds_to() -> None:
    largest = torch.logspace(-1, 4, 500)
    assert bool((largest / scale_of(largest).float() <= LARGEST).all())


def test_a_scale_is_never_too_small_for_f16() -> None:
    scale = scale_of(torch.tensor([0.0, 1e-9]))
    assert scale.dtype == torch.float16
    assert scale.tolist() == [SMALLEST_SCALE, SMALLEST_SCALE]


def test_values_beyond_the_range_saturate() -> None:
    scale = scale_of(torch.tensor(1.0))
    held = through_f8(torch.tensor([-3.0, 3.0]), scale)
    assert abs(float(held[1]) - 1.0) < 1e-3 and float(held[0]) == -float(held[1])


def test_rounding_is_within_a_sixteenth_of_a_value() -> None:
    values = torch.randn(10_000, generator=torch.Generator().manual_seed(0))
    scale = scale_of(values.abs().max())
    normal = values[values.abs() > float(scale) * 2.0**-6]
    off = (through_f8(normal, scale) - normal).abs() / normal.abs()
    assert 0.05 < float(off.max()) <= 1 / 16


def test_each_output_channel_has_its_own_scale() -> None:
    weight = torch.ones(3, 2, 3, 3) * torch.tensor([1.0, 10.0, 100.0])[:, None, None, None]
    scale = weight_scale(weight)
    assert scale.shape == (3,)
    stored = to_f8(weight, along_outputs(scale, weight)).float()
    assert float(stored.min()) > 0.99 * LARGEST  # small channels use the whole format too
