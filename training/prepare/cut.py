"""Runs of good frames, and the clips they are cut into."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

Reasons = list[str | None]


def with_guard(reasons: Sequence[str | None], guard: int) -> Reasons:
    """Why frames are left out, now also those up to `guard` beside such frames.

    A gate notices a hand or a turned head some frames late.

    Args:
        reasons: of every frame; None: it is good.
    """
    count = len(reasons)
    result: Reasons = list(reasons)
    for index, reason in enumerate(reasons):
        if reason is None:
            continue
        for near in range(max(index - guard, 0), min(index + guard + 1, count)):
            if result[near] is None:
                result[near] = reason
    return result


def unbroken_runs(reasons: Sequence[str | None], breaks: Sequence[bool]) -> list[range]:
    """Runs of frames without a reason against them.

    Args:
        breaks: whether a frame does not continue the one before it.
    """
    runs = []
    first: int | None = None
    for index in range(len(reasons) + 1):
        ended = index == len(reasons) or reasons[index] is not None or breaks[index]
        if ended and first is not None:
            runs.append(range(first, index))
            first = None
        if index < len(reasons) and reasons[index] is None and first is None:
            first = index
    return runs


def cut_clips(run: range, shortest: int, longest: int) -> list[range]:
    """The run in about equal pieces of at most `longest` frames; none if it is too short.

    With `longest` at least twice `shortest` no piece is too short.
    """
    if len(run) < shortest:
        return []
    pieces = -(-len(run) // longest)
    edges = [run.start + len(run) * piece // pieces for piece in range(pieces + 1)]
    return [range(first, end) for first, end in itertools.pairwise(edges)]


def same_reason(reasons: Sequence[str | None]) -> list[tuple[range, str]]:
    """Stretches of frames that are left out for the same reason."""
    stretches = []
    first = 0
    for reason, group in itertools.groupby(reasons):
        stop = first + sum(1 for _ in group)
        if reason is not None:
            stretches.append((range(first, stop), reason))
        first = stop
    return stretches
