"""Denoising steps as weighted sums, so that a device computes any of them with one kernel."""

from __future__ import annotations

import numpy as np

from engine.media import F32
from engine.plan_runtime.hop_way import branches_of
from engine.sampler import Sampler, add_noise, guide
from engine.spec import ModelSpec


def noises_of(spec: ModelSpec) -> int:
    """Fixed noises that a session of the model needs."""
    return Sampler(spec).noises


def step_weights(spec: ModelSpec) -> F32:
    """float32 [steps, 1 + r + n]: what each step makes of latents, r predictions and n noises.

    `next = w[0] * latents + sum(w[1 + i] * prediction[i]) + sum(w[1 + r + i] * noise[i])`. Every
    solver of `engine.sampler` is such a sum, so its weights are what it gives for units. Of two
    predictions the first is that without sound; a step without guidance takes none of it.
    """
    sampler, branches = Sampler(spec), branches_of(spec)
    noises = sampler.noises
    units = np.eye(1 + branches + noises, dtype=np.float64)
    weights = np.zeros((len(spec.timesteps), len(units)), np.float32)
    for step in range(len(spec.timesteps)):
        noise = units[1 + branches + min(step + 1, noises - 1)]
        prediction = units[branches]
        if spec.guided(step):
            prediction = guide(units[1], units[2], spec.guidance_scale)
        weights[step] = sampler.step(step, units[0], prediction, noise)
    return weights


def pin_weights(spec: ModelSpec) -> F32:
    """float32 [steps + 1, 1 + n]: what clean context is before each step, of it and n noises.

    A step sees the context as noisy as its own latents (`engine.denoise`, mode "pinned"). After the
    last one nobody reads it.
    """
    sampler = Sampler(spec)
    units = np.eye(1 + sampler.noises, dtype=np.float64)
    weights = np.zeros((len(spec.timesteps) + 1, len(units)), np.float32)
    for step, alpha in enumerate(sampler.alphas[:-1]):
        weights[step] = add_noise(units[0], units[1 + min(step, sampler.noises - 1)], alpha)
    return weights
