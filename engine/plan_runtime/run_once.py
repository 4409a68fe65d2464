"""One run of one plan on arrays from the host: for checks, not for serving."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from engine.errors import BackendError
from engine.media import F32
from engine.plan_runtime.cuda_runtime import CudaRuntime
from engine.plan_runtime.memory import Allocations, Field, StagedBlock
from engine.plan_runtime.plan_engine import NUMPY_TYPES, PlanEngine


def run_once(
    engine: PlanEngine, cuda: CudaRuntime, stream: int, inputs: Mapping[str, F32]
) -> dict[str, F32]:
    """A plan's outputs in f32, by name.

    Args:
        inputs: by name, [rows, ...] for one of the plan's profiles; given in f32, whatever the plan
            reads.

    Raises:
        BackendError: other inputs than the plan's, or a type that numpy lacks.
        DeviceError: the device refuses memory or the call.
    """
    wanted = [tensor for tensor in engine.tensors if tensor.is_input]
    rows = len(next(iter(inputs.values()), ()))
    fields: dict[bool, dict[str, Field]] = {True: {}, False: {}}
    for tensor in engine.tensors:
        if tensor.dtype not in NUMPY_TYPES:
            raise BackendError(f"{engine.name}: {tensor.name} is {tensor.dtype}, numpy lacks it")
        kind = NUMPY_TYPES[tensor.dtype]
        fields[tensor.is_input][tensor.name] = Field(kind, (rows, *tensor.shape))
    shapes = {tensor.name: (rows, *tensor.shape) for tensor in wanted}
    if shapes != {name: value.shape for name, value in inputs.items()}:
        raise BackendError(f"{engine.name}: expected inputs {shapes}, got other ones")
    allocations = Allocations(cuda)
    try:
        given = StagedBlock(cuda, allocations, fields[True])
        made = StagedBlock(cuda, allocations, fields[False])
        for name, value in inputs.items():
            given.arrays[name][...] = value
        size = engine.scratch_bytes(engine.rows.index(rows)) if rows in engine.rows else 0
        scratch = (allocations.device(size), size)
        call = engine.call(rows, scratch, given.addresses | made.addresses, stream)
        given.queue_to_device(stream)
        call.queue()
        made.queue_to_host(stream)
        cuda.synchronize(stream)
        return {name: made.arrays[name].astype(np.float32) for name in fields[False]}
    finally:
        allocations.release()
