"""8-bit floats with a scale: how weights are stored, and what a product in 8 bits reads.

Scales are f16, as the graph around them is, and are rounded up: a scale rounded down would push the
largest values over the end.
"""

from __future__ import annotations

import torch
from torch import Tensor

FP8 = torch.float8_e4m3fn
LARGEST = float(torch.finfo(FP8).max)  # 448
SMALLEST_SCALE = float(torch.finfo(torch.float16).smallest_normal)  # smaller ones may be flushed


def scale_of(largest: Tensor) -> Tensor:
    """f16 scales with which magnitudes up to `largest` (f32) become at most 448."""
    exact = (largest.float() / LARGEST).clamp(min=SMALLEST_SCALE)
    scale = exact.half()
    above = torch.nextafter(scale, torch.full_like(scale, torch.inf))
    return torch.where(scale.float() < exact, above, scale)


def to_f8(values: Tensor, scale: Tensor) -> Tensor:
    """QuantizeLinear: values over a scale as 8-bit floats, saturating."""
    return (values.float() / scale.float()).clamp(-LARGEST, LARGEST).to(FP8)


def through_f8(values: Tensor, scale: Tensor) -> Tensor:
    """What DequantizeLinear gives back of `to_f8`, in the dtype of the values."""
    return (to_f8(values, scale).float() * scale.float()).to(values.dtype)


def weight_scale(weight: Tensor) -> Tensor:
    """f16 [out]: a scale for each output channel of a linear layer or a convolution."""
    return scale_of(weight.abs().flatten(1).amax(dim=1))


def along_outputs(scale: Tensor, weight: Tensor) -> Tensor:
    """Scales [out] shaped to be multiplied with weights [out, ...]."""
    return scale.reshape(-1, *[1] * (weight.dim() - 1))
