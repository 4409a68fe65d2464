"""Linear layers in 8-bit floats: weights and activations scaled row by row, sums in f32.

Where the device has no such products the same rounding is emulated by casts, so that its error is
that of the real thing and the path is tested; its speed then says nothing.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from benchmarks.measure import FP8, has_fp8

FP8_LARGEST = float(torch.finfo(FP8).max)  # 448
SMALLEST_SCALE = 1e-12
MULTIPLE = 16  # of rows and columns, asked for by the device's products


def scaled_rows(x: Tensor) -> tuple[Tensor, Tensor]:
    """The rows of [n, k] as 8-bit floats that use their whole range, and f32 scales [n, 1]."""
    largest = x.abs().amax(dim=1, keepdim=True).float()
    scale = (largest / FP8_LARGEST).clamp(min=SMALLEST_SCALE)
    return (x.float() / scale).clamp(-FP8_LARGEST, FP8_LARGEST).to(FP8), scale


class Fp8Linear(nn.Module):
    """A linear layer whose weights are held in 8 bits; it takes and gives what it replaces did."""

    weight: Tensor
    scale: Tensor

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        weight, scale = scaled_rows(linear.weight.detach())
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self.register_buffer("weight", weight)
        self.register_buffer("scale", scale)
        self.bias = linear.bias
        self._real = has_fp8(linear.weight.device)

    def forward(self, x: Tensor) -> Tensor:
        rows = x.reshape(-1, self.in_features)
        values, scale = scaled_rows(rows)
        if self._real:
            out = torch._scaled_mm(
                values,
                self.weight.t(),
                scale,
                self.scale.t(),
                out_dtype=torch.bfloat16,
                use_fast_accum=True,
            ).to(x.dtype)
        else:
            out = (values.float() @ self.weight.float().t() * scale * self.scale.t()).to(x.dtype)
        if self.bias is not None:
            out = out + self.bias
        return out.reshape(*x.shape[:-1], self.out_features)


def fits(linear: nn.Linear) -> bool:
    """Whether the device's products take this layer."""
    return linear.in_features % MULTIPLE == 0 and linear.out_features % MULTIPLE == 0


def replace_linears(module: nn.Module) -> int:
    """Puts 8-bit layers in place of those that fit; how many."""
    count = 0
    for name, child in list(module.named_children()):
        if isinstance(child, nn.Linear) and fits(child):
            setattr(module, name, Fp8Linear(child))
            count += 1
        else:
            count += replace_linears(child)
    return count
