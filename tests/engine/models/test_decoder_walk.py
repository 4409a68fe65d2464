"""What a walk is made of: doubled convolutions, and moments of parts."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn

from engine.models.decoder_walk import group_moments, normalised, pooled, upsampled_conv


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_a_doubled_convolution_is_the_plain_one(memory_format: torch.memory_format) -> None:
    torch.manual_seed(0)
    conv = nn.Conv2d(3, 5, 3, padding=1).double()
    x = torch.randn(2, 3, 6, 9, dtype=torch.float64).to(memory_format=memory_format)
    plain = conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))
    torch.testing.assert_close(upsampled_conv(conv, x), plain, rtol=0, atol=1e-13)


def test_moments_of_parts_give_those_of_the_whole() -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 8, 10, 4, dtype=torch.float64) + torch.arange(10.0)[:, None]
    whole = pooled(group_moments(x[:, :, :3], 4), group_moments(x[:, :, 3:], 4), 0.3)
    torch.testing.assert_close(whole, group_moments(x, 4), rtol=0, atol=1e-13)
    norm = nn.GroupNorm(4, 8, dtype=torch.float64)
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    torch.testing.assert_close(normalised(norm, x, whole), norm(x), rtol=0, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_moments_of_halves_are_in_float32(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    x = (torch.randn(1, 4, 64, 64) + 20.0).to(dtype)  # a sum of it has no place in float16
    moments = group_moments(x, 2)
    assert moments.dtype == torch.float32
    torch.testing.assert_close(moments.double(), group_moments(x.double(), 2), rtol=1e-5, atol=0)
    normed = normalised(nn.GroupNorm(2, 4, dtype=dtype), x, moments)
    assert normed.dtype == dtype
    exact = F.group_norm(x.double(), 2)
    torch.testing.assert_close(normed.double(), exact, rtol=2e-2, atol=1e-2)
