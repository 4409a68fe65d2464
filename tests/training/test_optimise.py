from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from training.optimise import Average, Recipe, Run, learning_rate, prefetched, step_generator

RECIPE = Recipe(steps=12, batch=1, rate=0.1, warmup=3)


def line_run(path: Path) -> Run:
    torch.manual_seed(0)
    module = torch.nn.Linear(3, 1)
    return Run(module, RECIPE, [{"params": list(module.parameters()), "scale": 1.0}], path)


def losses(run: Run, stop_before: int) -> list[float]:
    """The losses of the steps up to `stop_before`, where the run is left as a killed one is."""
    found: list[float] = []

    def make(number: int) -> Tensor:
        return torch.randn(4, 3, generator=torch.Generator().manual_seed(number))

    for batch in run.steps(make, lambda: None):
        if run.step == stop_before:
            break
        noise = torch.randn(4, 1, generator=step_generator(RECIPE, run.step))
        loss = (run.module(batch) - batch.sum(dim=1, keepdim=True) + 0.1 * noise).square().mean()
        found.append(float(loss.detach()))
        run.learn(loss, {"loss": loss})
    return found


def test_a_run_that_was_cut_short_goes_on_as_if_it_had_not_been(tmp_path: Path) -> None:
    whole = losses(line_run(tmp_path / "whole.pt"), 12)
    first = line_run(tmp_path / "run.pt")
    before = losses(first, 5)
    first.save()
    losses(first, 8)  # never saved: lost with the process
    again = line_run(tmp_path / "run.pt")
    again.resume()
    assert again.step == 5
    assert before + losses(again, 12) == whole


def test_a_step_whose_loss_is_no_number_is_reported_and_changes_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run = line_run(tmp_path / "run.pt")
    before = run.module.weight.detach().clone()  # type: ignore[operator]
    loss = run.module(torch.zeros(1, 3)).sum() / 0.0 * 0.0
    run.learn(loss, {"loss": loss})
    assert run.step == 1
    torch.testing.assert_close(run.module.weight, before)
    assert "step 0 is left out" in caplog.text and "loss nan" in caplog.text


def test_the_rate_warms_up_stays_and_falls() -> None:
    recipe = Recipe(steps=100, batch=1, rate=1.0, warmup=10, fall=0.5)
    assert learning_rate(recipe, 0) == pytest.approx(0.1)
    assert learning_rate(recipe, 20) == learning_rate(recipe, 49) == pytest.approx(1.0)
    assert learning_rate(recipe, 75) == pytest.approx(0.51)
    assert learning_rate(recipe, 100) == pytest.approx(0.02)


def test_an_average_follows() -> None:
    module = torch.nn.Linear(1, 1)
    average = Average(module, 0.5)
    with torch.no_grad():
        module.weight.fill_(4.0)
    for _ in range(40):
        average.update(module)
    torch.testing.assert_close(average.values["weight"], module.weight)


def test_reading_ahead_keeps_the_order() -> None:
    items = prefetched(lambda number: number * number, 3)
    assert [next(items) for _ in range(3)] == [9, 16, 25]
