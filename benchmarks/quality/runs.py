"""Runs of the takes through a backend, hop by hop, in any window mode."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

import numpy as np

from benchmarks.quality.material import Take
from engine.backends.base import Backend, GeneratedHop, HopInput, SessionState
from engine.backends.select import open_backend
from engine.face.mask import paste_weights
from engine.media import F32, U8
from engine.pipeline import show_crops
from engine.sampler import leading_timesteps, trailing_timesteps
from engine.spec import CarryMode, ModelSpec, ReferenceMode, Solver, StartMode

UPSTREAM_STEPS: Final = 20
UPSTREAM_GUIDANCE: Final = 1.5
_ENCODE_BATCH: Final = 16
_SEED: Final = 0  # of every session: cases differ in nothing but what they name


@dataclass(frozen=True, slots=True)
class Case:
    """One way of running a model.

    Attributes:
        hop: new frames a call.
        timesteps: highest first.
        published: leading timesteps and guidance in disjoint windows, as upstream runs.
    """

    mode: CarryMode
    hop: int
    timesteps: tuple[int, ...]
    start: StartMode = "noise"
    solver: Solver = "ddim"
    refresh_hops: int = 0
    reference: ReferenceMode = "frame"
    guidance_scale: float = 1.0
    published: bool = False

    @property
    def steps(self) -> int:
        return len(self.timesteps)

    @property
    def way(self) -> str:
        """What it is called in tables, without hop and steps."""
        if self.published:
            return "upstream"
        words: list[str] = [self.mode]
        if self.refresh_hops:
            words.append(f"refresh {self.refresh_hops}")
        if self.start == "warm":
            words.append("warm")
        if self.solver != "ddim":
            words.append(self.solver)
        if self.reference != "frame":
            words.append(f"{self.reference} reference")
        if self.guidance_scale > 1.0:
            words.append(f"guidance {self.guidance_scale:g}")
        return ", ".join(words)

    def apply(self, spec: ModelSpec) -> ModelSpec:
        """The model's spec, run this way.

        Raises:
            ConfigError: the model cannot be run so.
        """
        return dataclasses.replace(
            spec,
            carry=self.mode,
            hop_frames=self.hop,
            timesteps=self.timesteps,
            start=self.start,
            solver=self.solver,
            refresh_hops=self.refresh_hops,
            reference=self.reference,
            guidance_scale=self.guidance_scale,
            guided_steps=None,
            codec=dataclasses.replace(
                spec.codec, decode_rows=spec.codec.decode_rows and not self.published
            ),
        )


def own_case(spec: ModelSpec) -> Case:
    """How the model's folder says it is run."""
    return Case(
        spec.carry,
        spec.hop_frames,
        spec.timesteps,
        spec.start,
        spec.solver,
        spec.refresh_hops,
        spec.reference,
        spec.guidance_scale,
    )


def upstream_case(spec: ModelSpec) -> Case:
    """How LatentSync 1.5 is published: nothing but the noise links its windows."""
    return Case(
        "disjoint",
        spec.window_frames,
        tuple(leading_timesteps(UPSTREAM_STEPS)),
        guidance_scale=UPSTREAM_GUIDANCE,
        published=True,
    )


def timesteps_of(spec: ModelSpec, steps: int) -> tuple[int, ...]:
    """The model's own timesteps where it serves so many, else trailing ones."""
    return spec.timesteps if len(spec.timesteps) == steps else tuple(trailing_timesteps(steps))


@dataclass(frozen=True, slots=True)
class Run:
    """What came out.

    Attributes:
        clips: uint8 [frames, R, R, 3] of each take, the generated part pasted into the source.
        latents: float32 [frames, C, s, s] of each take; None where the backend hides them.
        frame_ms: wall clock a frame of one take, encoding included.
    """

    clips: list[U8]
    latents: list[F32] | None
    frame_ms: float


class Runner(Protocol):
    """A backend whose hops may also give the latents that were decoded."""

    spec: ModelSpec
    name: str

    def encode(self, crops: U8, *, masked: bool) -> F32:
        """As `Backend.encode`."""

    def new_session(self, *, hop_frames: int, seed: int) -> SessionState:
        """As `Backend.new_session`."""

    def run(self, batch: Sequence[HopInput]) -> tuple[list[GeneratedHop], list[F32] | None]:
        """Faces and clean latents [h, C, s, s] of each input; None: not to be had."""


class Opener(Protocol):
    """Opens one model in many ways."""

    @property
    def spec(self) -> ModelSpec:
        """The model as its folder describes it."""

    def open(self, spec: ModelSpec) -> Runner:
        """What runs the model as `spec` says.

        Raises:
            BackendError: it cannot.
        """


class FolderOpener:
    """Any backend by name; it gives no latents."""

    def __init__(self, folder: Path, name: str) -> None:
        self.spec = ModelSpec.read(folder)
        self._folder, self._name = folder, name

    def open(self, spec: ModelSpec) -> Runner:
        return PicturesRunner(open_backend(self._folder, self._name, spec=spec))


class PicturesRunner:
    """A backend as it is."""

    def __init__(self, backend: Backend) -> None:
        self.spec, self.name = backend.spec, backend.name
        self._backend = backend

    def encode(self, crops: U8, *, masked: bool) -> F32:
        return self._backend.encode(crops, masked=masked)

    def new_session(self, *, hop_frames: int, seed: int) -> SessionState:
        return self._backend.new_session(hop_frames=hop_frames, seed=seed)

    def run(self, batch: Sequence[HopInput]) -> tuple[list[GeneratedHop], list[F32] | None]:
        return self._backend.run_hop(batch), None


def run_case(
    opener: Opener, case: Case, takes: Sequence[Take], frames: int, *, wrong_sound: bool = False
) -> Run:
    """The takes, said by a model in one way.

    Args:
        frames: of each take, cut to whole hops; takes go round when it is more than theirs.
        wrong_sound: every face hears the other take.

    Raises:
        ConfigError, BackendError: the model cannot be run so.
    """
    began = time.perf_counter()
    parts = list(stream(opener, case, takes, frames, wrong_sound=wrong_sound))
    spent_ms = 1e3 * (time.perf_counter() - began)
    clips = [np.concatenate([part.crops[place] for part in parts]) for place in range(len(takes))]
    latents = None
    if all(part.latents is not None for part in parts):
        latents = [
            np.concatenate([part.latents[place] for part in parts if part.latents is not None])
            for place in range(len(takes))
        ]
    return Run(clips, latents, spent_ms / max(len(takes) * len(clips[0]), 1))


@dataclass(frozen=True, slots=True)
class Hop:
    """One hop of every take.

    Attributes:
        frames: their numbers since the stream's start.
        crops: uint8 [h, R, R, 3] of each take, pasted into the source.
        latents: float32 [h, C, s, s] of each take, or None.
    """

    frames: range
    crops: list[U8]
    latents: list[F32] | None


def stream(
    opener: Opener, case: Case, takes: Sequence[Take], frames: int, *, wrong_sound: bool = False
) -> Iterator[Hop]:
    """`run_case` hop by hop, for streams too long to keep."""
    runner = opener.open(case.apply(opener.spec))
    hop = case.hop
    masked = [_encode(runner, take.source, masked=True) for take in takes]
    reference = [_encode(runner, take.source, masked=False) for take in takes]
    states: list[SessionState] = [runner.new_session(hop_frames=hop, seed=_SEED) for _ in takes]
    weights = paste_weights(runner.spec.face, runner.spec.resolution)
    for first in range(0, frames // hop * hop, hop):
        rows = [np.arange(first, first + hop) % take.frames for take in takes]
        batch = [
            HopInput(
                state,
                (take.wrong_mel if wrong_sound else take.mel)[row],
                own_masked[row],
                own_reference[np.zeros_like(row) if case.reference == "session" else row],
            )
            for state, take, own_masked, own_reference, row in zip(
                states, takes, masked, reference, rows, strict=True
            )
        ]
        generated, latents = runner.run(batch)
        pasted = [
            show_crops(own, take.source[row], weights)
            for own, take, row in zip(generated, takes, rows, strict=True)
        ]
        yield Hop(range(first, first + hop), pasted, latents)


def _encode(runner: Runner, crops: U8, *, masked: bool) -> F32:
    parts = [
        runner.encode(crops[start : start + _ENCODE_BATCH], masked=masked)
        for start in range(0, len(crops), _ENCODE_BATCH)
    ]
    return np.concatenate(parts)
