"""Denoising steps as functions: no step index hides in them, so sessions share them.

They work on numpy arrays and torch tensors alike. `alpha` is always the
cumulative product at a timestep: sample = sqrt(alpha) x0 + sqrt(1 - alpha) noise.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, TypeVar

import numpy as np

from engine.errors import ConfigError
from engine.media import F32
from engine.spec import ModelSpec, PredictionType

ArrayT = TypeVar("ArrayT")

TRAIN_TIMESTEPS = 1000
BETA_START = 0.00085
BETA_END = 0.012


@lru_cache
def alphas_cumprod(
    train_timesteps: int = TRAIN_TIMESTEPS,
    beta_start: float = BETA_START,
    beta_end: float = BETA_END,
) -> F32:
    """[train_timesteps] alpha of every timestep, of scaled-linear betas; read-only."""
    betas = np.linspace(beta_start**0.5, beta_end**0.5, train_timesteps, dtype=np.float64) ** 2
    alphas = np.cumprod(1.0 - betas).astype(np.float32)
    alphas.flags.writeable = False
    return alphas


def leading_timesteps(steps: int, *, offset: int = 1, train: int = TRAIN_TIMESTEPS) -> list[int]:
    """Timesteps that start each of `steps` equal parts, highest first: the published spacing.

    It breaks at few steps: one step is timestep 1, from pure noise.
    """
    _check_steps(steps, train)
    return [index * (train // steps) + offset for index in reversed(range(steps))]


def trailing_timesteps(steps: int, *, train: int = TRAIN_TIMESTEPS) -> list[int]:
    """Timesteps that end each of `steps` equal parts, highest first: 1 step is 999."""
    _check_steps(steps, train)
    return [round(train - index * train / steps) - 1 for index in range(steps)]


def predict_x0(
    sample: ArrayT, prediction: ArrayT, alpha: Any, prediction_type: PredictionType
) -> ArrayT:
    """The clean latents that a network's prediction stands for.

    Args:
        sample: noisy latents.
        prediction: the network's output, of that shape.
        alpha: a number, or an array that broadcasts over the latents.
        prediction_type: what the output is: noise, velocity or the clean latents.
    """
    noisy: Any = sample
    signal, noise = alpha**0.5, (1.0 - alpha) ** 0.5
    x0: ArrayT
    if prediction_type == "epsilon":
        x0 = (noisy - noise * prediction) / signal
    elif prediction_type == "v_prediction":
        x0 = signal * noisy - noise * prediction
    else:
        x0 = prediction
    return x0


def add_noise(x0: ArrayT, noise: ArrayT, alpha: Any) -> ArrayT:
    """The clean latents at the noise level of `alpha`."""
    noisy: ArrayT = alpha**0.5 * x0 + (1.0 - alpha) ** 0.5 * noise
    return noisy


def ddim_step(
    sample: ArrayT,
    prediction: ArrayT,
    alpha: float,
    alpha_next: float,
    prediction_type: PredictionType = "epsilon",
) -> tuple[ArrayT, ArrayT]:
    """One deterministic (eta 0) step: the latents at `alpha_next`, and the clean estimate."""
    x0: Any = predict_x0(sample, prediction, alpha, prediction_type)
    noise: Any = prediction
    if prediction_type != "epsilon":
        noise = (sample - alpha**0.5 * x0) / (1.0 - alpha) ** 0.5
    return add_noise(x0, noise, alpha_next), x0


class Sampler:
    """A model's served timesteps.

    Attributes:
        timesteps: highest first.
        prediction_type: what the network's output is.
    """

    def __init__(self, spec: ModelSpec) -> None:
        table = alphas_cumprod()
        if spec.timesteps[0] >= len(table) or spec.timesteps[-1] < 0:
            raise ConfigError(f"expected timesteps 0 to {len(table) - 1}, got {spec.timesteps}")
        self.timesteps = spec.timesteps
        self.prediction_type = spec.prediction_type
        self.solver = spec.solver
        self.alphas = (*(float(table[timestep]) for timestep in spec.timesteps), 1.0)

    @property
    def noises(self) -> int:
        """Fixed noises that a session needs: one a step where each step adds its own."""
        return len(self.timesteps) if self.solver == "renoise" else 1

    def step(
        self, index: int, sample: ArrayT, prediction: ArrayT, noise: ArrayT | None = None
    ) -> ArrayT:
        """The latents that the next timestep starts from; after the last, the clean latents.

        Args:
            index: which of `timesteps` this is.
            sample: latents before the step; at index 0 the session's noise, or warm latents.
            prediction: the network's output for them.
            noise: the session's own for step `index + 1`; read by the solver "renoise" only.
        """
        alpha, alpha_next = self.alphas[index], self.alphas[index + 1]
        if self.solver == "ddim":
            return ddim_step(sample, prediction, alpha, alpha_next, self.prediction_type)[0]
        x0 = predict_x0(sample, prediction, alpha, self.prediction_type)
        if index + 1 == len(self.timesteps):
            return x0
        if noise is None:
            raise ConfigError('expected the noise of the next step for the solver "renoise"')
        return add_noise(x0, noise, alpha_next)


def guide(without: ArrayT, spoken: ArrayT, scale: float) -> ArrayT:
    """The prediction pushed away from the one without sound: classifier-free guidance."""
    guided: Any = without
    result: ArrayT = guided + scale * (spoken - guided)
    return result


def _check_steps(steps: int, train: int) -> None:
    if not 1 <= steps <= train:
        raise ConfigError(f"expected 1 to {train} steps, got {steps}")
