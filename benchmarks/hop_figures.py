"""Hops of any backend on the wall clock, and pictures by which two backends can be compared."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.engine_cases import fill_hops
from benchmarks.synthetic import hop_inputs, next_inputs
from engine.backends.base import Backend
from engine.media import FPS, U8
from engine.spec import ModelSpec

PROBE_HOPS = 3

Note = Callable[..., None]
"""Takes figures by name as soon as they are there."""


@dataclass(frozen=True, slots=True)
class Setting:
    """What every runtime of a run is measured on.

    Attributes:
        model: a folder with weights.
        spec: how it is run.
        batches: sessions of a call, rising: a profile each.
        plans: folder of the plan cache.
        rounds, limit_s: timed hops of a batch, at most, and seconds after which none begins.
    """

    model: Path
    spec: ModelSpec
    batches: tuple[int, ...]
    plans: Path
    rounds: int
    limit_s: float


def hop_rows(
    backend: Backend, batches: Sequence[int], rounds: int, limit_s: float
) -> Iterator[list[dict[str, object]]]:
    """The figures of every batch so far, after each batch.

    Contexts are full before the clock runs. A hop is timed from numpy to numpy.
    """
    rows: list[dict[str, object]] = []
    hop = backend.spec.hop_frames
    for batch in batches:
        inputs = hop_inputs(backend, hop, batch)
        for _ in range(fill_hops(backend.spec)):
            backend.run_hop(inputs)
        samples: list[float] = []
        began = time.perf_counter()
        while not samples or (len(samples) < rounds and time.perf_counter() - began < limit_s):
            start = time.perf_counter()
            backend.run_hop(inputs)
            samples.append(1e3 * (time.perf_counter() - start))
        middle, high = np.percentile(samples, (50, 95))
        frames_s = 1e3 * hop * batch / middle
        rows.append(
            {
                "batch": batch,
                "hop_ms_p50": round(float(middle), 3),
                "hop_ms_p95": round(float(high), 3),
                "rounds": len(samples),
                "frames_s": round(float(frames_s), 2),
                "sessions_25fps": round(float(frames_s) / FPS, 2),
            }
        )
        yield list(rows)


def probe_crops(backend: Backend) -> U8:
    """[frames, R, R, 3] of one session's first hops, from inputs that are always the same."""
    dice = np.random.default_rng(0)
    inputs = hop_inputs(backend, backend.spec.hop_frames, 1)
    made = []
    for _ in range(PROBE_HOPS):
        made += [item.crops for item in backend.run_hop(inputs)]
        inputs = next_inputs(inputs, dice)
    return np.concatenate(made)


def levels_apart(ours: U8, theirs: U8) -> dict[str, float]:
    """How far two probes are apart, in levels of 255."""
    apart = np.abs(ours.astype(np.int32) - theirs)
    return {"levels_mean": round(float(apart.mean()), 4), "levels_max": float(apart.max())}
