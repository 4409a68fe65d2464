"""Which ways of running a model are measured."""

from __future__ import annotations

import dataclasses

import pytest

from benchmarks.quality.plan import Choice, passes, plan, round_frames, warm_timesteps
from benchmarks.quality.runs import Case, own_case, upstream_case
from engine.sampler import leading_timesteps, trailing_timesteps
from tests.tiny_models import TINY_SPEC

EVERYTHING = Choice(
    modes=("disjoint", "pinned", "carry", "causal"),
    hops=(1, 2, 4, 8, 16),
    steps=(1, 2, 4, 8, 20),
    starts=("noise", "warm"),
    references=("frame", "session"),
    refresh_hops=(0, 8),
)


def test_every_mode_is_taken_at_every_hop_with_the_steps_that_the_model_serves() -> None:
    cases = plan(TINY_SPEC, EVERYTHING)
    served = {(case.mode, case.hop, case.refresh_hops) for case in cases if case.steps == 1}
    for hop in (1, 2, 4, 8):
        for mode in ("disjoint", "pinned", "causal"):
            assert (mode, hop, 0) in served
        assert {("carry", hop, 0), ("carry", hop, 8)} <= served
    assert [case.mode for case in cases if case.hop == 16 and case.steps == 1] == ["disjoint"]
    assert len(cases) == len(set(cases))


def test_other_step_counts_are_taken_at_one_hop_a_mode_with_trailing_timesteps() -> None:
    cases = plan(TINY_SPEC, EVERYTHING)
    many = [case for case in cases if case.steps == 20]
    assert {(case.mode, case.hop) for case in many} == {
        ("disjoint", 16), ("pinned", 8), ("carry", 4), ("causal", 4),
    }  # fmt: skip
    assert all(case.timesteps == tuple(trailing_timesteps(20)) for case in many)
    assert all(
        case.timesteps == (999,) for case in cases if case.steps == 1 and case.start != "warm"
    )


def test_warm_starts_and_references_are_taken_in_the_models_own_way() -> None:
    cases = plan(TINY_SPEC, EVERYTHING)
    warm = [case for case in cases if case.start == "warm"]
    assert [case.timesteps for case in warm] == [(749,), (749, 374), (749, 561, 374, 187)]
    assert {(case.mode, case.hop) for case in warm} == {("causal", 4)}
    assert [case.way for case in cases if case.reference == "session"] == [
        "causal, session reference"
    ]


def test_every_case_is_a_spec_that_the_engine_accepts() -> None:
    for case in [*plan(TINY_SPEC, EVERYTHING), upstream_case(TINY_SPEC), own_case(TINY_SPEC)]:
        spec = case.apply(TINY_SPEC)
        assert (spec.carry, spec.hop_frames) == (case.mode, case.hop)
        assert spec.timesteps == case.timesteps
    assert own_case(TINY_SPEC).apply(TINY_SPEC) == TINY_SPEC


def test_upstream_is_run_as_it_is_published() -> None:
    spec = dataclasses.replace(
        TINY_SPEC, codec=dataclasses.replace(TINY_SPEC.codec, decode_rows=False)
    )
    case = upstream_case(spec)
    assert (case.mode, case.hop, case.guidance_scale) == ("disjoint", 16, 1.5)
    assert list(case.timesteps) == leading_timesteps(20)
    assert case.way == "upstream" and case.reference == "frame"
    assert all(case.apply(spec).guided(step) for step in range(20))


@pytest.mark.parametrize(
    ("case", "cost"),
    [
        (Case("causal", 4, (999,)), 1.0),
        (Case("pinned", 2, (999, 499)), 16.0),
        (Case("disjoint", 16, tuple(leading_timesteps(20)), guidance_scale=1.5), 40.0),
    ],
)
def test_the_passes_that_a_frame_costs(case: Case, cost: float) -> None:
    assert passes(case, 16) == cost


def test_rounds_are_odd_so_that_no_hop_divides_them() -> None:
    assert [round_frames(s) for s in (0.1, 5.0, 6.6, 13.0)] == [33, 123, 163, 323]
    assert warm_timesteps(1) == (749,)
