"""The device memory of one hop length, shared by all buckets: each reads its first rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engine.media import F32, U8
from engine.plan_runtime.bindings import (
    Binding,
    Ring,
    bindings_of,
    check_profiles,
    check_tensors,
    rings_of,
)
from engine.plan_runtime.cuda_runtime import CudaRuntime
from engine.plan_runtime.hop_way import branches_of, hop_plans, is_pinned, rows_of
from engine.plan_runtime.memory import Allocations, Field, StagedBlock
from engine.plan_runtime.mixing import pin_weights, step_weights
from engine.plan_runtime.plan_engine import NUMPY_TYPES, DType, PlanEngine, PlanTensor
from engine.plan_runtime.session_slab import Carried, SessionSlab
from engine.spec import ModelSpec

# Copied in once a hop, for each bucket from a place of its own (`HopProgram`).
STAGED = frozenset({"mel", "masked", "reference", "valid", "places", "present"})


@dataclass(frozen=True, slots=True)
class Result:
    """What comes back to the host.

    Attributes:
        pinned: uint8, of the largest bucket.
        row_bytes: of one session.
    """

    address: int
    pinned: U8
    row_bytes: int
    tensor: PlanTensor

    def first(self, rows: int) -> U8:
        """The pinned memory of so many sessions."""
        return self.pinned[: rows * self.row_bytes]

    def array(self, rows: int, hop: int) -> NDArray[np.generic]:
        """The same as an array [rows, h, ...]."""
        shape = (rows, hop, *self.tensor.shape[-3:])
        return self.first(rows).view(NUMPY_TYPES[self.tensor.dtype]).reshape(shape)


class HopBuffers:
    """All device memory of one hop length.

    Attributes:
        bindings: of every tensor, by plan.
        addresses: by buffer (`buffer_key`); without those that are staged.
        results: what comes back to the host, by buffer.
        slab: what the sessions carry.
    """

    def __init__(
        self,
        cuda: CudaRuntime,
        stream: int,
        spec: ModelSpec,
        hop: int,
        precision: DType,
        plans: Mapping[str, PlanEngine],
        buckets: Sequence[int],
    ) -> None:
        """Checks the plans and takes the memory.

        Args:
            precision: of the networks.
            buckets: sessions of one call, rising.

        Raises:
            BackendError: a plan has other tensors or profiles than the model's hops need.
            OutOfDeviceMemory: the device has no room for it.
        """
        self.cuda, self.stream, self.spec, self.hop, self.plans = cuda, stream, spec, hop, plans
        rings = rings_of(plans["unet"].tensors)
        self.bindings = bindings_of(spec, hop, precision, rings)
        for name, wanted in self.bindings.items():
            check_tensors(name, wanted, plans[name].tensors)
        rows_found = {name: plans[name].rows for name in self.bindings}
        check_profiles(rows_found, spec, hop, buckets)
        self._allocations = Allocations(cuda)
        try:
            rows = buckets[-1]
            self.results = {binding.buffer: self._result(binding, rows) for binding in self._back()}
            self.addresses = {name: result.address for name, result in self.results.items()}
            self.addresses |= self._between(rows) | self._constants(rows)
            noise = next(b.tensor for b in self.bindings["hop_start"] if b.buffer == "noise")
            self.slab = SessionSlab(
                cuda,
                stream,
                self._allocations,
                self._window() if is_pinned(spec, hop) else self._rings(rings),
                context=spec.window_frames - hop,
                hop=hop,
                in_order=is_pinned(spec, hop),
                rows=rows,
                noise_bytes=noise.row_bytes,
            )
            self.addresses |= self.slab.addresses
            cuda.synchronize(stream)
        except BaseException:
            self.release()
            raise

    def release(self) -> None:
        """Gives the memory back; no program over it may be used any more."""
        self._allocations.release()

    def session_rows(self, plan: str) -> int:
        """Rows that a plan has for one session."""
        return rows_of(self.spec, self.hop, plan)

    def row_bytes(self, buffer: str) -> int:
        """Of one session in a buffer that a plan writes."""
        return next(
            self.session_rows(plan) * binding.tensor.row_bytes
            for plan, binding in self._written()
            if binding.buffer == buffer
        )

    def _written(self) -> Iterator[tuple[str, Binding]]:
        for plan in hop_plans(self.spec, self.hop):
            for binding in self.bindings[plan]:
                if not binding.tensor.is_input:
                    yield plan, binding

    def _back(self) -> list[Binding]:
        return [binding for _, binding in self._written() if binding.buffer in ("crops", "warp")]

    def _result(self, binding: Binding, rows: int) -> Result:
        size = self.row_bytes(binding.buffer)
        address, pinned = self._allocations.device(rows * size), self._allocations.host(rows * size)
        return Result(address, pinned, size, binding.tensor)

    def _between(self, rows: int) -> dict[str, int]:
        """What plans write and other plans, or the rings, read."""
        steps = range(len(self.spec.timesteps))
        return {
            buffer_key(binding, step): self._allocations.device(
                rows * self.session_rows(plan) * binding.tensor.row_bytes
            )
            for plan, binding in self._written()
            if binding.buffer not in self.results
            for step in (steps if binding.each_step else (0,))
        }

    def _rings(self, rings: Sequence[Ring]) -> list[Carried]:
        """What a session carries in rings: keys, values and moments of every step and branch."""
        sets = 2 * branches_of(self.spec)
        steps = range(len(self.spec.timesteps) if self.spec.window_frames > self.hop else 0)
        return [
            Carried(
                f"{ring.name}/{step}",
                sets,
                ring.frame_bytes,
                self.addresses[f"new_{ring.name}/{step}"],
                sets * self.hop * ring.frame_bytes,
            )
            for step in steps
            for ring in rings
        ]

    def _window(self) -> list[Carried]:
        """What a session carries where the whole window is denoised: what its frames came from."""
        frames = self.spec.window_frames
        tensors = {b.buffer: b.tensor for _, b in self._written()}
        carried = [
            Carried(
                f"past_{what}",
                1,
                tensors[f"window_{what}"].row_bytes // frames,
                self.addresses[f"window_{what}"],
                tensors[f"window_{what}"].row_bytes,
            )
            for what in ("latents", "masked", "reference")
        ]
        audio = tensors["audio"].row_bytes
        spoken = self.addresses["audio"] + audio - audio // branches_of(self.spec)
        frame = audio // branches_of(self.spec) // frames
        return [*carried, Carried("past_tokens", 1, frame, spoken, audio)]

    def _constants(self, rows: int) -> dict[str, int]:
        """What differs between steps and never changes: timesteps, and weights of sums."""
        weights, pins = step_weights(self.spec), pin_weights(self.spec)
        calls = rows * self.session_rows("unet")
        values: dict[str, tuple[tuple[int, ...], F32 | int]] = {
            "pin_first": ((rows, pins.shape[1]), pins[0])
        }
        for step, timestep in enumerate(self.spec.timesteps):
            values[f"timestep/{step}"] = ((calls,), timestep)
            values[f"mix/{step}"] = ((rows, weights.shape[1]), weights[step])
            # What a step gives is what the next one reads.
            values[f"pin/{step}"] = ((rows, pins.shape[1]), pins[step + 1])
        fields = {name: Field(np.float32, shape) for name, (shape, _) in values.items()}
        block = StagedBlock(self.cuda, self._allocations, fields)
        for name, (_, value) in values.items():
            block.arrays[name][:] = value
        block.queue_to_device(self.stream)
        return block.addresses


def buffer_key(binding: Binding, step: int) -> str:
    """The name of the buffer that a binding has in a step."""
    return f"{binding.buffer}/{step}" if binding.each_step else binding.buffer
