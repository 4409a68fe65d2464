"""Which ways of running a model are measured, and over how many frames each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from benchmarks.quality.runs import Case, own_case, timesteps_of
from engine.spec import CarryMode, ModelSpec, ReferenceMode, StartMode

WARM_STEPS = 4  # warm starts are for few steps
WARM_TIMESTEP = 749  # where a warm start begins: below it the frame before shows through
COSTLY_PASSES = 2.0  # network passes a frame above which a case gets the short takes


@dataclass(frozen=True, slots=True)
class Choice:
    """What the command line asks for.

    Attributes:
        hops: a hop of the whole window is one for "disjoint" alone.
        refresh_hops: of the mode "carry", 0 for never; each is a case of its own.
    """

    modes: Sequence[CarryMode]
    hops: Sequence[int]
    steps: Sequence[int]
    starts: Sequence[StartMode]
    references: Sequence[ReferenceMode]
    refresh_hops: Sequence[int]


def plan(spec: ModelSpec, choice: Choice) -> list[Case]:
    """Every mode at every hop with the steps that the model serves, then other step counts.

    Those are taken at one hop a mode: the whole window in disjoint ones, half of it in pinned
    ones, which cost W / h times as much, and the model's own in the others. Warm starts and
    other references are taken in the model's own mode at its own hop.
    """
    served = len(spec.timesteps)
    cases = [
        case
        for hop in choice.hops
        for case in _modes(spec, choice, hop, spec.timesteps if served in choice.steps else ())
    ]
    for steps in choice.steps:
        if steps != served:
            timesteps = timesteps_of(spec, steps)
            for mode in choice.modes:
                only = Choice((mode,), (), (), (), (), choice.refresh_hops[-1:])
                cases += _modes(spec, only, usual_hop(spec, mode), timesteps)
    own = own_case(spec)
    for start in choice.starts:
        for steps in choice.steps if start != own.start else ():
            if steps <= WARM_STEPS:
                cases.append(_like(own, timesteps=warm_timesteps(steps), start=start))
    for reference in choice.references:
        if reference != own.reference:
            cases.append(_like(own, reference=reference))
    return list(dict.fromkeys(cases))


def usual_hop(spec: ModelSpec, mode: CarryMode) -> int:
    """The hop at which a mode's step counts are compared."""
    if mode == "disjoint":
        return spec.window_frames
    return spec.window_frames // 2 if mode == "pinned" else spec.hop_frames


def warm_timesteps(steps: int) -> tuple[int, ...]:
    """Evenly spaced timesteps from `WARM_TIMESTEP` down."""
    return tuple(round((WARM_TIMESTEP + 1) * (steps - step) / steps) - 1 for step in range(steps))


def passes(case: Case, window: int) -> float:
    """Network passes over one frame that a new frame costs."""
    seen = window / case.hop if case.mode == "pinned" else 1.0
    return case.steps * seen * (2 if case.guidance_scale > 1.0 else 1)


def round_frames(seconds: float) -> int:
    """Frames of one round: odd, so that no hop divides it."""
    return max(int(seconds * 25) // 2 * 2 - 1, 33)


def _modes(spec: ModelSpec, choice: Choice, hop: int, timesteps: tuple[int, ...]) -> Iterator[Case]:
    for mode in choice.modes if timesteps else ():
        if hop >= spec.window_frames and mode != "disjoint":
            continue  # nothing is carried: a disjoint window
        for refresh in choice.refresh_hops if mode == "carry" else (0,):
            yield Case(
                mode,
                hop,
                timesteps,
                refresh_hops=refresh,
                reference=spec.reference,
                guidance_scale=spec.guidance_scale,
            )


def _like(
    case: Case,
    timesteps: tuple[int, ...] | None = None,
    start: StartMode | None = None,
    reference: ReferenceMode | None = None,
) -> Case:
    return Case(
        case.mode,
        case.hop,
        timesteps or case.timesteps,
        start or case.start,
        case.solver,
        case.refresh_hops,
        reference or case.reference,
        case.guidance_scale,
    )
