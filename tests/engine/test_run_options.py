"""What a user may choose about how a model is run."""

from __future__ import annotations

import dataclasses

import pytest

from engine.errors import ConfigError
from engine.run_options import RunOptions
from tests.tiny_models import TINY_SPEC

CARRY = dataclasses.replace(TINY_SPEC, carry="carry", refresh_hops=8, timesteps=(999, 499))


def test_nothing_chosen_leaves_the_model_as_it_is() -> None:
    assert RunOptions().applied(CARRY) == CARRY


def test_another_mode_needs_no_refresh() -> None:
    pinned = RunOptions(window_mode="pinned").applied(CARRY)
    assert (pinned.carry, pinned.refresh_hops) == ("pinned", 0)
    assert RunOptions(window_mode="carry").applied(CARRY) == CARRY


def test_disjoint_windows_are_whole_ones() -> None:
    assert RunOptions(window_mode="disjoint").applied(CARRY).hop_frames == 16


@pytest.mark.parametrize(
    ("options", "timesteps"),
    [
        (RunOptions(steps=1), (999,)),
        (RunOptions(steps=4), (999, 749, 499, 249)),
        (RunOptions(steps=2, start="warm"), (799, 399)),
        (RunOptions(start="warm"), (799, 399)),
    ],
)
def test_steps_are_spaced_trailing_and_lower_where_they_start_warm(
    options: RunOptions, timesteps: tuple[int, ...]
) -> None:
    assert options.applied(CARRY).timesteps == timesteps


def test_guided_steps_do_not_outlive_other_steps() -> None:
    guided = dataclasses.replace(CARRY, guidance_scale=1.5, guided_steps=(1,))
    spec = RunOptions(steps=1).applied(guided)
    assert spec.guided(0)


@pytest.mark.parametrize(
    "options",
    [
        RunOptions(window_mode="pinned", refresh_hops=2),
        RunOptions(steps=0),
        RunOptions(guidance_scale=0.5),
    ],
)
def test_choices_that_do_not_go_together_are_refused(options: RunOptions) -> None:
    with pytest.raises(ConfigError, match="expected"):
        options.applied(CARRY)
