"""The device memory of one hop length, shared by all buckets: each reads its first rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engine.media import U8
from engine.plan_runtime.bindings import (
    FRAME_PLANS,
    HOP_PLANS,
    Binding,
    bindings_of,
    check_profiles,
    check_tensors,
    rings_of,
)
from engine.plan_runtime.cuda_runtime import CudaRuntime
from engine.plan_runtime.memory import Allocations, Field, StagedBlock
from engine.plan_runtime.mixing import step_weights
from engine.plan_runtime.plan_engine import NUMPY_TYPES, DType, PlanEngine, PlanTensor
from engine.plan_runtime.session_slab import SessionSlab
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
        check_profiles({name: plans[name].rows for name in self.bindings}, hop, buckets)
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
                rings,
                self.addresses,
                steps=len(spec.timesteps),
                context=spec.window_frames - hop,
                hop=hop,
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
        return self.hop if plan in FRAME_PLANS else 1

    def row_bytes(self, buffer: str) -> int:
        """Of one session in a buffer that a plan writes."""
        return next(
            self.session_rows(plan) * binding.tensor.row_bytes
            for plan, binding in self._written()
            if binding.buffer == buffer
        )

    def _written(self) -> Iterator[tuple[str, Binding]]:
        for plan in HOP_PLANS:
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

    def _constants(self, rows: int) -> dict[str, int]:
        """What differs between steps and never changes: timesteps, and the solver's sums."""
        weights = step_weights(self.spec)
        fields = {}
        for step in range(len(weights)):
            fields[f"timestep/{step}"] = Field(np.float32, (rows,))
            fields[f"mix/{step}"] = Field(np.float32, (rows, weights.shape[1]))
        block = StagedBlock(self.cuda, self._allocations, fields)
        for step, timestep in enumerate(self.spec.timesteps):
            block.arrays[f"timestep/{step}"][:] = timestep
            block.arrays[f"mix/{step}"][:] = weights[step]
        block.queue_to_device(self.stream)
        return block.addresses


def buffer_key(binding: Binding, step: int) -> str:
    """The name of the buffer that a binding has in a step."""
    return f"{binding.buffer}/{step}" if binding.each_step else binding.buffer
