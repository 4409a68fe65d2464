"""Denoising steps, on numpy and torch alike."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from engine.errors import ConfigError
from engine.sampler import (
    Sampler,
    add_noise,
    alphas_cumprod,
    ddim_step,
    leading_timesteps,
    predict_x0,
    trailing_timesteps,
)
from engine.spec import PredictionType
from tests.tiny_models import TINY_SPEC

KINDS: tuple[PredictionType, ...] = ("epsilon", "v_prediction", "sample")


def test_spacings_differ_where_it_matters() -> None:
    assert leading_timesteps(1) == [1]
    assert leading_timesteps(20)[0] == 951
    assert trailing_timesteps(1) == [999]
    assert trailing_timesteps(4) == [999, 749, 499, 249]


def test_spacings_refuse_impossible_counts() -> None:
    for steps in (0, 1001):
        with pytest.raises(ConfigError, match="expected 1 to 1000 steps"):
            trailing_timesteps(steps)


def test_the_last_timestep_is_nearly_noise() -> None:
    alphas = alphas_cumprod()
    assert np.all(np.diff(alphas) < 0)
    assert float(alphas[999]) == pytest.approx(0.004660, abs=1e-5)
    with pytest.raises(ValueError, match="read-only"):
        alphas[0] = 1.0


@pytest.mark.parametrize("kind", KINDS)
def test_a_perfect_prediction_gives_back_the_clean_latents(kind: PredictionType) -> None:
    random = np.random.default_rng(0)
    x0, noise = random.normal(size=(2, 3, 4))
    alpha = 0.3
    sample = add_noise(x0, noise, alpha)
    perfect = {
        "epsilon": noise,
        "v_prediction": alpha**0.5 * noise - (1 - alpha) ** 0.5 * x0,
        "sample": x0,
    }[kind]
    assert np.allclose(predict_x0(sample, perfect, alpha, kind), x0)
    stepped, estimate = ddim_step(sample, perfect, alpha, 0.8, kind)
    assert np.allclose(stepped, add_noise(x0, noise, 0.8))
    assert np.allclose(estimate, x0)


def test_torch_and_numpy_agree() -> None:
    random = np.random.default_rng(1)
    sample, prediction = random.normal(size=(2, 3, 4))
    ours = ddim_step(sample, prediction, 0.2, 0.7, "v_prediction")[0]
    theirs = ddim_step(
        torch.from_numpy(sample), torch.from_numpy(prediction), 0.2, 0.7, "v_prediction"
    )[0]
    assert np.allclose(ours, theirs.numpy())


def test_a_served_model_ends_with_clean_latents() -> None:
    spec = dataclasses.replace(TINY_SPEC, prediction_type="epsilon", timesteps=(999, 699))
    sampler = Sampler(spec)
    random = np.random.default_rng(2)
    x0, noise = random.normal(size=(2, 3, 4))
    start = add_noise(x0, noise, float(alphas_cumprod()[999]))
    middle = sampler.step(0, start, noise)
    assert np.allclose(middle, add_noise(x0, noise, float(alphas_cumprod()[699])))
    assert np.allclose(sampler.step(1, middle, noise), x0, atol=1e-5)


def test_timesteps_beyond_the_table_are_refused() -> None:
    with pytest.raises(ConfigError, match="expected timesteps 0 to 999"):
        Sampler(dataclasses.replace(TINY_SPEC, timesteps=(1000,)))
