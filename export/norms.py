"""Norms in f32 inside a network of 16-bit numbers.

A norm squares what it reads and divides by the sum: in f16 that overflows from 256 on, and in bf16
it keeps two digits. So every norm casts its input to f32 and its result back, and its own weights
stay in f32.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

NORMS = (nn.GroupNorm, nn.LayerNorm)


def keep_norms_in_f32(module: nn.Module, dtype: torch.dtype) -> None:
    """Makes every norm in `module`, which is in `dtype`, compute in f32."""

    def widen(_norm: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        return (inputs[0].float(), *inputs[1:])

    def narrow(_norm: nn.Module, _inputs: tuple[Any, ...], output: Tensor) -> Tensor:
        return output.to(dtype)

    for part in module.modules():
        if isinstance(part, NORMS):
            part.to(torch.float32)
            part.register_forward_pre_hook(widen)
            part.register_forward_hook(narrow)
