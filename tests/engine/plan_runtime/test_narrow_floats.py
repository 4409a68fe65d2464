"""bf16 in numpy is torch's."""

from __future__ import annotations

import numpy as np
import torch

from engine.plan_runtime.narrow_floats import from_bf16, to_bf16


def test_numbers_of_every_size_are_rounded_as_torch_rounds_them() -> None:
    bits = np.random.default_rng(0).integers(0, 1 << 32, 100_000, np.uint32)
    ties = (np.arange(1 << 10, dtype=np.uint32) << 16) | 0x8000
    values = np.concatenate([bits, ties, np.array([0, 0x7F800000, 0xFF800000], np.uint32)]).view(
        np.float32
    )
    want = torch.from_numpy(values).to(torch.bfloat16)
    got = from_bf16(to_bf16(values))
    there = ~np.isnan(values)
    np.testing.assert_array_equal(got[there], want.float().numpy()[there])
    assert np.isnan(got[~there]).all() and (~there).any()
