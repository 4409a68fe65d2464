"""The noise of training: part of it is the same in all frames of a clip."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


def mixed_noise(shape: tuple[int, ...], alpha: float, generator: torch.Generator) -> Tensor:
    """float32 unit noise [b, C, f, h, w] whose frames share alpha^2 / (1 + alpha^2) of its power.

    Preserve Your Own Correlation (2305.10474), equation 3. Drawn on the generator's device.
    """
    batch, channels, _, height, width = shape
    device = generator.device
    shared = torch.randn((batch, channels, 1, height, width), generator=generator, device=device)
    own = torch.randn(shape, generator=generator, device=device)
    mixed: Tensor = (alpha * shared + own) / (1.0 + alpha**2) ** 0.5
    return mixed


def generator_of(*numbers: int) -> torch.Generator:
    """A generator on the CPU that depends on nothing but these numbers.

    What a step draws is a function of its number, so a resumed run draws what an
    uninterrupted one would have drawn, on any device.
    """
    (seed,) = np.random.SeedSequence(numbers).generate_state(1, np.uint64)
    return torch.Generator().manual_seed(int(seed) >> 1)
