"""Denoising steps as weighted sums, so that a device computes any of them with one kernel."""

from __future__ import annotations

import numpy as np

from engine.media import F32
from engine.sampler import Sampler
from engine.spec import ModelSpec


def noises_of(spec: ModelSpec) -> int:
    """Fixed noises that a session of the model needs."""
    return Sampler(spec).noises


def step_weights(spec: ModelSpec) -> F32:
    """float32 [steps, 2 + n]: what each step makes of latents, prediction and the n noises.

    `next = w[0] * latents + w[1] * prediction + sum(w[2 + i] * noise[i])`. Every solver of
    `engine.sampler` is such a sum, so its weights are what it gives for units.
    """
    sampler = Sampler(spec)
    noises = sampler.noises
    units = np.eye(2 + noises, dtype=np.float64)
    weights = np.zeros((len(spec.timesteps), 2 + noises), np.float32)
    for step in range(len(spec.timesteps)):
        noise = units[min(2 + step + 1, 1 + noises)]
        weights[step] = sampler.step(step, units[0], units[1], noise)
    return weights
