"""One run of one plan on arrays from the host: for checks, not for serving."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from engine.errors import BackendError
from engine.media import F32
from engine.plan_runtime.cuda_runtime import CudaRuntime
from engine.plan_runtime.memory import Allocations, Field, StagedBlock
from engine.plan_runtime.narrow_floats import from_bf16, to_bf16
from engine.plan_runtime.plan_engine import NUMPY_TYPES, PlanEngine


def run_once(
    engine: PlanEngine, cuda: CudaRuntime, stream: int, inputs: Mapping[str, F32]
) -> dict[str, F32]:
    """A plan's outputs in f32, by name.

    Args:
        inputs: by name, [rows, ...] for one of the plan's profiles; given in f32, whatever the plan
            reads.

    Raises:
        BackendError: other inputs than the plan's.
        DeviceError: the device refuses memory or the call.
    """
    narrow = {tensor.name for tensor in engine.tensors if tensor.dtype == "bf16"}
    wanted = [tensor for tensor in engine.tensors if tensor.is_input]
    rows = len(next(iter(inputs.values()), ()))
    fields: dict[bool, dict[str, Field]] = {True: {}, False: {}}
    for tensor in engine.tensors:
        kind = NUMPY_TYPES.get(tensor.dtype, np.uint16)
        fields[tensor.is_input][tensor.name] = Field(kind, (rows, *tensor.shape))
    shapes = {tensor.name: (rows, *tensor.shape) for tensor in wanted}
    if shapes != {name: value.shape for name, value in inputs.items()}:
        raise BackendError(f"{engine.name}: expected inputs {shapes}, got other ones")
    allocations = Allocations(cuda)
    try:
        given = StagedBlock(cuda, allocations, fields[True])
        made = StagedBlock(cuda, allocations, fields[False])
        for name, value in inputs.items():
            given.arrays[name][...] = to_bf16(value) if name in narrow else value
        size = engine.scratch_bytes(engine.rows.index(rows)) if rows in engine.rows else 0
        scratch = (allocations.device(size), size)
        call = engine.call(rows, scratch, given.addresses | made.addresses, stream)
        given.queue_to_device(stream)
        call.queue()
        made.queue_to_host(stream)
        cuda.synchronize(stream)
        return {name: _wide(made.arrays[name], name in narrow) for name in fields[False]}
    finally:
        allocations.release()


def _wide(values: NDArray[np.generic], is_bf16: bool) -> F32:
    wide: F32 = from_bf16(values.view(np.uint16)) if is_bf16 else values.astype(np.float32)
    return wide
