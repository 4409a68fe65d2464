"""TensorRT plans of a model's networks, the hops of many sessions in one batch.

A hop goes to the device as log-mels and face latents and comes back as pictures and warps. What is
between, and what sessions carry, stays on the device (`engine.plan_runtime`). TensorRT and
TensorRT-RTX are one backend: their APIs agree.
"""

from __future__ import annotations

import weakref
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast, get_args

import numpy as np

from engine.backends.base import GeneratedHop, HopInput, SessionState
from engine.backends.inputs import (
    check_batch,
    check_crops,
    check_new_session,
    latents_shape,
    session_noise,
)
from engine.backends.tensorrt_plans import PlanPrecision, ServedPlans, TensorRtPlans
from engine.errors import BackendError, OutOfDeviceMemory, StreamError
from engine.media import F32, U8
from engine.plan_runtime.cuda_driver import CudaDriver
from engine.plan_runtime.cuda_runtime import CudaRuntime
from engine.plan_runtime.encode_program import EncodeProgram
from engine.plan_runtime.hop_buffers import HopBuffers
from engine.plan_runtime.hop_program import HopProgram
from engine.plan_runtime.hop_way import is_pinned, plans_of
from engine.plan_runtime.memory import Allocations
from engine.plan_runtime.mixing import noises_of
from engine.plan_runtime.plan_engine import ApiName, DType, PlanEngine, load_api
from engine.plan_runtime.session_slab import Resident
from engine.plans.cache import PlanCache
from engine.spec import ModelSpec

BUCKETS = (1, 2, 4, 8, 16)

OpenPlans = Callable[[int], Mapping[str, PlanEngine]]
"""Loads every plan of a hop length (`engine.plan_runtime.hop_way.plans_of`)."""


@dataclass(slots=True, eq=False, weakref_slot=True)
class PlanSession:
    """One session: what it carries, on the device."""

    owner: TensorRtBackend
    hop: int
    resident: Resident

    def reset(self) -> None:
        """Forgets the carried context."""
        self.resident.reset()


@dataclass(slots=True)
class HopLength:
    """Everything that belongs to one hop length.

    Attributes:
        scratch: address and bytes, for all its plans, which run one after the other.
        encoders: by rows.
    """

    plans: Mapping[str, PlanEngine]
    buffers: HopBuffers
    allocations: Allocations
    scratch: tuple[int, int]
    programs: dict[int, HopProgram] = field(default_factory=dict)
    encoders: dict[int, EncodeProgram] = field(default_factory=dict)


def refused_by_plans(spec: ModelSpec, hop: int) -> str:
    """What of a model the plans cannot do; empty where they can do it all."""
    wants = {
        f"carry 'disjoint' in hops of less than {spec.window_frames} frames": (
            spec.carry == "disjoint" and hop < spec.window_frames
        ),
        f"refresh_hops {spec.refresh_hops}": spec.refresh_hops > 0 and hop < spec.window_frames,
        f"start {spec.start!r}": spec.start != "noise",
    }
    return ", ".join(name for name, wanted in wants.items() if wanted)


class TensorRtBackend:
    """Runs a model from its plans."""

    def __init__(
        self,
        spec: ModelSpec,
        cuda: CudaRuntime,
        open_plans: OpenPlans,
        *,
        name: str,
        precision: DType,
        buckets: Sequence[int] = BUCKETS,
    ) -> None:
        """Loads the plans of the model's own hop length.

        Args:
            name: "tensorrt" or "tensorrt-rtx".
            precision: of the networks.
            buckets: hops of one call, rising: the batches that the plans have profiles of.

        Raises:
            BackendError: the model's way of carrying context is not in the plans, or a plan does
                not fit it.
        """
        self.spec = spec
        self.name = f"{name}-{precision}"
        self.max_batch = buckets[-1]
        self._cuda, self._open_plans = cuda, open_plans
        self._precision, self._buckets = precision, tuple(buckets)
        self._lengths: dict[int, HopLength] = {}
        self._gone: deque[tuple[HopLength, Resident]] = deque()
        self._check_hop(spec.hop_frames)
        self._stream = cuda.create_stream()
        self._length(spec.hop_frames)

    @property
    def is_captured(self) -> bool:
        """Whether every batch that has run so far is replayed as a CUDA graph."""
        programs = [p for length in self._lengths.values() for p in length.programs.values()]
        return bool(programs) and all(program.is_captured for program in programs)

    def encode(self, crops: U8, *, masked: bool) -> F32:
        """Codec latents [n, C, s, s] of face crops [n, R, R, 3]."""
        check_crops(self.spec, crops)
        latents = np.empty((len(crops), *latents_shape(self.spec)), np.float32)
        length = self._length(self.spec.hop_frames)
        start = 0
        while start < len(crops):
            encoder = self._encoder(length, len(crops) - start)
            part = crops[start : start + encoder.rows]
            latents[start : start + len(part)] = encoder.run(part, masked=masked)
            start += len(part)
        return latents

    def new_session(self, *, hop_frames: int, seed: int) -> PlanSession:
        """Fresh state; its memory goes back when it is no longer held.

        Raises:
            OutOfDeviceMemory: the device has no room for another session.
        """
        check_new_session(self.spec, hop_frames)
        length = self._length(hop_frames)
        self._reclaim()
        slab = length.buffers.slab
        try:
            resident = slab.open(session_noise(self.spec, seed, noises_of(self.spec)))
        except OutOfDeviceMemory as error:
            raise OutOfDeviceMemory(
                f"{self._cuda.device.name} has no room for another session of "
                f"{slab.session_bytes / 1e6:.1f} MB: {error}"
            ) from error
        session = PlanSession(self, hop_frames, resident)
        weakref.finalize(session, self._gone.append, (length, resident))
        return session

    def warm_up(self, hop_frames: int) -> None:
        """Binds and captures every bucket of this hop length."""
        check_new_session(self.spec, hop_frames)
        length = self._length(hop_frames)
        for bucket in self._buckets:
            self._program(length, bucket)
            self._encoder(self._length(self.spec.hop_frames), bucket * self.spec.hop_frames)

    def run_hop(self, batch: Sequence[HopInput]) -> list[GeneratedHop]:
        """The generated faces for each input."""
        if not batch:
            return []
        sessions = [self._own(item.state) for item in batch]
        hop = check_batch(self.spec, batch, [session.hop for session in sessions])
        self._reclaim()
        length = self._length(hop)
        made: list[GeneratedHop] = []
        for start in range(0, len(batch), self.max_batch):
            end = start + self.max_batch
            residents = [session.resident for session in sessions[start:end]]
            made += self._run(length, residents, batch[start:end])
        return made

    def close(self) -> None:
        """Gives all device memory back; sessions must not be used any more."""
        self._reclaim()
        for length in self._lengths.values():
            for program in length.programs.values():
                program.release()
            for encoder in length.encoders.values():
                encoder.release()
            length.buffers.release()
            length.allocations.release()
        self._lengths.clear()
        self._cuda.destroy_stream(self._stream)

    def _run(
        self, length: HopLength, residents: Sequence[Resident], items: Sequence[HopInput]
    ) -> list[GeneratedHop]:
        bucket = next(size for size in self._buckets if size >= len(items))
        program, slab = self._program(length, bucket), length.buffers.slab
        rows = slab.seat(residents, bucket)
        inputs = program.inputs
        for row, resident, item in zip(rows, residents, items, strict=True):
            inputs["mel"][row] = item.mel
            inputs["masked"][row] = item.masked_latents
            inputs["reference"][row] = item.ref_latents
            filled, places = slab.places(resident)
            if "valid" in inputs:
                inputs["valid"][row], inputs["places"][row] = filled, places
            elif is_pinned(self.spec, length.buffers.hop):
                inputs["present"][row] = np.append(filled, np.ones(length.buffers.hop, np.float32))
            else:
                inputs["present"][row] = 1.0
        program.run()
        try:
            slab.store(residents)
            crops, warps = program.wait()
        except BaseException:
            # The hop may be half done, and nothing may be staged before it is over.
            for resident in residents:
                resident.reset()
            self._cuda.synchronize(self._stream)
            raise
        return [
            GeneratedHop(crops[row].copy(), None if warps is None else warps[row].copy())
            for row in rows
        ]

    def _check_hop(self, hop: int) -> None:
        if refused := refused_by_plans(self.spec, hop):
            raise BackendError(
                f"TensorRT plans start from noise and refresh no rings, and {self.spec.name} has "
                f"{refused}: use --start noise --refresh-hops 0, or the torch backend"
            )

    def _length(self, hop: int) -> HopLength:
        if hop not in self._lengths:
            self._check_hop(hop)
            plans = self._open_plans(hop)
            wanted = plans_of(self.spec, hop)
            if missing := [name for name in wanted if name not in plans]:
                raise BackendError(f"expected plans of {wanted}, {missing} missing")
            allocations = Allocations(self._cuda)
            size = max(
                plan.scratch_bytes(profile)
                for plan in plans.values()
                for profile in range(len(plan.rows))
            )
            scratch = (allocations.device(size), size)
            try:
                buffers = HopBuffers(
                    self._cuda,
                    self._stream,
                    self.spec,
                    hop,
                    self._precision,
                    plans,
                    self._buckets,
                )
            except BaseException:
                allocations.release()
                raise
            self._lengths[hop] = HopLength(plans, buffers, allocations, scratch)
        return self._lengths[hop]

    def _program(self, length: HopLength, bucket: int) -> HopProgram:
        if bucket not in length.programs:
            length.programs[bucket] = HopProgram(length.buffers, bucket, length.scratch)
        return length.programs[bucket]

    def _encoder(self, length: HopLength, crops: int) -> EncodeProgram:
        """The smallest that takes so many crops at once; the largest if none does."""
        sizes = [bucket * self.spec.hop_frames for bucket in self._buckets]
        rows = next((size for size in sizes if size >= crops), sizes[-1])
        if rows not in length.encoders:
            length.encoders[rows] = EncodeProgram(
                self._cuda,
                self._stream,
                length.plans,
                length.buffers.bindings,
                rows,
                length.scratch,
            )
        return length.encoders[rows]

    def _reclaim(self) -> None:
        """Frees what sessions had that are gone: not when they went, which is at any time."""
        while self._gone:
            length, resident = self._gone.popleft()
            length.buffers.slab.close(resident)

    def _own(self, state: SessionState) -> PlanSession:
        if not isinstance(state, PlanSession) or state.owner is not self:
            raise StreamError(f"expected a session of this {self.name} backend")
        return state


def plan_precision(asked: str | None) -> PlanPrecision:
    """The precision that plans are served in.

    Raises:
        BackendError: there are no plans in the one that is asked for.
    """
    if asked not in (None, *get_args(PlanPrecision)):
        raise BackendError(
            f"TensorRT plans are in {', '.join(get_args(PlanPrecision))}, asked for {asked}"
        )
    return cast(PlanPrecision, asked or "f16")


def open_model(
    model_dir: Path,
    api_name: ApiName,
    precision: str | None = None,
    spec: ModelSpec | None = None,
    plans: PlanCache | None = None,
) -> TensorRtBackend:
    """The backend for a model folder, on the first GPU.

    Args:
        api_name: the package that runs the plans.
        precision: "f16", which is what None means, "bf16" or "f32".
        spec: how the model is run; None: as its folder says.
        plans: where plans are kept; None: they are built at every start.

    Raises:
        BackendError: no GPU, a plan that cannot be built or loaded or that computes something else
            than onnxruntime does, a way of running that is not in the plans, or another precision.
    """
    chosen = plan_precision(precision)
    spec = spec or ModelSpec.read(model_dir)
    cuda = CudaDriver()
    opened = TensorRtPlans(plans, cuda, load_api(api_name))

    def open_plans(hop: int) -> Mapping[str, PlanEngine]:
        return opened.open(ServedPlans(api_name, model_dir, spec, hop, BUCKETS, chosen))

    return TensorRtBackend(
        spec, cuda, open_plans, name=api_name.replace("_", "-"), precision=chosen, buckets=BUCKETS
    )
