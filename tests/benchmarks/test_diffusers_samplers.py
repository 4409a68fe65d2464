"""diffusers' schedulers beside the engine's sampling."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.diffusers_samplers import (
    NAMES,
    SchedulerSampler,
    WindowBench,
    ddim_scheduler,
    measure,
    open_sampler,
    report_of,
)
from benchmarks.quality.runs import Case, run_case
from benchmarks.quality.torch_runs import TorchOpener
from benchmarks.report import Circumstances, render_html
from engine.backends.inputs import session_noise
from engine.spec import PredictionType
from tests.tiny_models import TINY_SPEC, make_tiny_model
from tests.toy_takes import toy_takes

NOISES = torch.from_numpy(session_noise(TINY_SPEC, 0, 20)).double()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("samplers") / "model"
    make_tiny_model(folder)
    return folder


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction", "sample"])
@pytest.mark.parametrize("steps", [1, 2, 4, 8, 20])
def test_our_ddim_is_diffusers_trailing_ddim(steps: int, prediction_type: PredictionType) -> None:
    spec = dataclasses.replace(TINY_SPEC, prediction_type=prediction_type)
    ours = open_sampler("ddim", spec, steps, NOISES)
    theirs = SchedulerSampler(ddim_scheduler(spec), steps, None)
    assert list(ours.timesteps) == list(theirs.timesteps)
    generator = torch.Generator().manual_seed(steps)
    a = b = torch.randn(1, 4, 3, 4, 4, generator=generator, dtype=torch.float64)
    for index in range(steps):
        prediction = torch.tanh(a * (0.3 + 0.1 * index))
        a, b = ours.step(index, a, prediction), theirs.step(index, b, prediction)
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)


def test_the_last_step_of_every_sampler_gives_the_clean_prediction() -> None:
    sample = torch.randn(1, 4, 3, 4, 4, generator=torch.Generator().manual_seed(1)).double()
    wanted = torch.full_like(sample, 0.25)
    for name in NAMES:
        sampler = open_sampler(name, TINY_SPEC, 4, NOISES)
        x = sample
        for index in range(len(sampler.timesteps)):
            x = sampler.step(index, x, wanted)
        torch.testing.assert_close(x, wanted, rtol=0, atol=0.02, msg=name)


def test_lcm_draws_another_noise_for_every_frame_unless_the_sessions_takes_its_place() -> None:
    still = torch.zeros(1, 4, 3, 4, 4, dtype=torch.float64)
    fixed = open_sampler("lcm", TINY_SPEC, 4, NOISES).step(0, still, still)
    drawn = open_sampler("lcm, own noise", TINY_SPEC, 4, NOISES).step(0, still, still)
    assert torch.equal(fixed[:, :, 0], fixed[:, :, 1])
    assert not torch.allclose(drawn[:, :, 0], drawn[:, :, 1])


def test_a_scheduler_cannot_be_shared_by_two_windows_and_a_step_of_ours_can() -> None:
    first, second = (
        torch.full((1, 4, 1, 4, 4), value, dtype=torch.float64) for value in (1.0, -1.0)
    )

    def walk(name: str, *, shared: bool) -> torch.Tensor:
        sampler = open_sampler(name, TINY_SPEC, 2, NOISES)
        between = sampler if shared else open_sampler(name, TINY_SPEC, 2, NOISES)
        x = sampler.step(0, first, first * 0.5)
        between.step(0, second, second * 0.5)
        return sampler.step(1, x, x * 0.5)

    assert torch.equal(walk("ddim", shared=True), walk("ddim", shared=False))
    walk("dpm++ 2m", shared=False)
    with pytest.raises(IndexError):
        walk("dpm++ 2m", shared=True)


@pytest.mark.parametrize(("windows", "hop"), [("disjoint", 16), ("pinned", 8)])
@pytest.mark.parametrize("steps", [1, 4])
def test_ddim_in_windows_is_what_the_engine_gives(
    folder: Path, windows: str, hop: int, steps: int
) -> None:
    takes = toy_takes(32)
    bench = WindowBench(folder)
    case = Case(
        "disjoint" if windows == "disjoint" else "pinned",
        hop,
        tuple(open_sampler("ddim", TINY_SPEC, steps, NOISES).timesteps),
    )
    engine = run_case(TorchOpener(folder, "cpu"), case, takes, 32)
    assert engine.latents is not None
    for take, want in zip(takes, engine.latents, strict=True):
        found = bench.run("ddim", steps, case.mode, bench.faces(take), 32)  # type: ignore[arg-type]
        np.testing.assert_allclose(found.numpy(), want, atol=2e-4)


def test_every_sampler_is_scored_and_shown(folder: Path) -> None:
    takes = toy_takes(33)
    bench = WindowBench(folder)
    result = measure(bench, takes, (1, 2), ("disjoint",), many=4)
    names = [(row["sampler"], row["steps"]) for row in result["rows"]]
    assert names == [("ddim", 4), *((name, count) for name in NAMES for count in (1, 2))]
    first, *rest = result["rows"]
    assert first["to_many_steps"] is None
    assert all(row["to_many_steps"]["latents"] > 0.0 for row in rest)
    ours, theirs = (
        next(row for row in rest if (row["sampler"], row["steps"]) == (name, 1))
        for name in ("ddim", "dpm++ 2m")
    )
    assert ours["to_many_steps"]["latents"] == pytest.approx(
        theirs["to_many_steps"]["latents"], rel=1e-3
    ), "one step is one step"
    about = Circumstances("c", "d", {}, "2026-01-01")
    assert "dpm++ 2m" in render_html(report_of(result, about))
