"""bf16, which numpy lacks: the upper half of a float32, in an array of uint16."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from engine.media import F32


def to_bf16(values: F32) -> NDArray[np.uint16]:
    """The nearest bf16 of each number, ties to even."""
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
    rounded = bits + (0x7FFF + ((bits >> 16) & 1))
    finite = (rounded >> 16).astype(np.uint16)
    # A NaN whose digits are all in the lower half would become infinite.
    nan = ((bits >> 16) | 0x40).astype(np.uint16)
    return np.where(np.isnan(values), nan, finite)


def from_bf16(bits: NDArray[np.uint16]) -> F32:
    """float32 of the same shape and values."""
    wide: F32 = (bits.astype(np.uint32) << 16).view(np.float32)
    return wide
