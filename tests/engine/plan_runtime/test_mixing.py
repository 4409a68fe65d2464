"""Weighted sums are the sampler's steps, guided or not, and the noise on pinned frames."""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import pytest

from engine.plan_runtime.hop_way import branches_of, hop_plans, plans_of, rows_of
from engine.plan_runtime.mixing import noises_of, pin_weights, step_weights
from engine.sampler import Sampler, add_noise, guide
from engine.spec import ModelSpec, PredictionType, Solver
from tests.tiny_models import TINY_SPEC

SOLVERS: tuple[Solver, ...] = ("ddim", "renoise")
PREDICTIONS: tuple[PredictionType, ...] = ("epsilon", "v_prediction", "sample")


def spec_of(
    solver: Solver, prediction: PredictionType, guided_steps: tuple[int, ...] | None
) -> ModelSpec:
    return dataclasses.replace(
        TINY_SPEC,
        timesteps=(999, 699, 299),
        solver=solver,
        prediction_type=prediction,
        guidance_scale=1.0 if guided_steps == () else 1.7,
        guided_steps=guided_steps or None,
    )


@pytest.mark.parametrize(
    ("solver", "prediction", "guided_steps"),
    list(itertools.product(SOLVERS, PREDICTIONS, [(), (1,), None])),
)
def test_a_step_is_the_samplers(
    solver: Solver, prediction: PredictionType, guided_steps: tuple[int, ...] | None
) -> None:
    spec = spec_of(solver, prediction, guided_steps)
    sampler, branches = Sampler(spec), branches_of(spec)
    assert branches == (1 if guided_steps == () else 2)
    dice = np.random.default_rng(0)
    latents, *predictions = dice.standard_normal((1 + branches, 5))
    noises = dice.standard_normal((noises_of(spec), 5))
    for step, weights in enumerate(step_weights(spec)):
        got = sum(w * x for w, x in zip(weights, [latents, *predictions, *noises], strict=True))
        predicted = predictions[-1]
        if spec.guided(step):
            predicted = guide(predictions[0], predictions[1], spec.guidance_scale)
        elif branches == 2:
            assert weights[1] == 0.0  # nothing of the branch without sound
        want = sampler.step(step, latents, predicted, noises[min(step + 1, len(noises) - 1)])
        np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("solver", SOLVERS)
def test_pinned_frames_are_as_noisy_as_the_latents_of_their_step(solver: Solver) -> None:
    spec = spec_of(solver, "epsilon", ())
    dice = np.random.default_rng(1)
    clean, *noises = dice.standard_normal((1 + noises_of(spec), 5))
    weights, alphas = pin_weights(spec), Sampler(spec).alphas
    assert len(weights) == len(spec.timesteps) + 1 and not weights[-1].any()
    for step in range(len(spec.timesteps)):
        got = sum(w * x for w, x in zip(weights[step], [clean, *noises], strict=True))
        want = add_noise(clean, noises[min(step, len(noises) - 1)], alphas[step])
        np.testing.assert_allclose(got, want, rtol=1e-6)


def test_a_model_has_the_plans_and_rows_that_its_way_of_running_asks_for() -> None:
    pinned = dataclasses.replace(TINY_SPEC, carry="pinned")
    guided = dataclasses.replace(TINY_SPEC, guidance_scale=1.5)
    assert "hop_audio" not in hop_plans(TINY_SPEC, 4)
    assert "hop_audio" in hop_plans(pinned, 4) and "hop_audio" in hop_plans(guided, 4)
    assert "hop_audio" not in hop_plans(pinned, pinned.window_frames)  # nothing is before it
    assert [rows_of(spec, 4, "unet") for spec in (TINY_SPEC, pinned, guided)] == [1, 1, 2]
    assert rows_of(guided, 4, "codec_decoder") == 4 and rows_of(guided, 4, "hop_step") == 1
    assert plans_of(TINY_SPEC, 4)[-3:] == ("crop_start", "codec_encoder", "crop_finish")
