"""Face crops to codec latents, a bucket of rows at a time: bound once, captured once."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from engine.media import F32, U8
from engine.plan_runtime.bindings import Binding
from engine.plan_runtime.captured import CapturedWork
from engine.plan_runtime.cuda_runtime import CudaRuntime
from engine.plan_runtime.hop_way import ENCODE_PLANS
from engine.plan_runtime.memory import Allocations, Field, StagedBlock
from engine.plan_runtime.plan_engine import PlanEngine


class EncodeProgram:
    """Encodes up to so many crops.

    Attributes:
        rows: crops of a run.
    """

    def __init__(
        self,
        cuda: CudaRuntime,
        stream: int,
        plans: Mapping[str, PlanEngine],
        bindings: Mapping[str, tuple[Binding, ...]],
        rows: int,
        scratch: tuple[int, int],
    ) -> None:
        """Takes memory, binds, runs once and captures.

        Args:
            scratch: address and size of the memory that all plans share.

        Raises:
            DeviceError: the device refuses memory, a binding or a call.
        """
        self._cuda, self._stream, self.rows = cuda, stream, rows
        self._allocations = Allocations(cuda)
        try:
            tensors = {b.buffer: b.tensor for plan in ENCODE_PLANS for b in bindings[plan]}
            given = {
                "crops": Field(np.uint8, (rows, *tensors["crops"].shape)),
                "grey": Field(np.float32, (rows, *tensors["grey"].shape)),
            }
            wide = Field(np.float32, (rows, *tensors["wide"].shape))
            self._given = StagedBlock(cuda, self._allocations, given)
            self._made = StagedBlock(cuda, self._allocations, {"wide": wide})
            addresses = {
                name: self._allocations.device(rows * tensors[name].row_bytes)
                for name in ("image", "latents")
            }
            addresses |= self._given.addresses | self._made.addresses
            self._calls = [
                plans[plan].call(
                    rows,
                    scratch,
                    {b.tensor.name: addresses[b.buffer] for b in bindings[plan]},
                    stream,
                )
                for plan in ENCODE_PLANS
            ]
            name = f"the encoding of {rows} crops"
            self._work = CapturedWork(cuda, stream, name, self._queue)
        except BaseException:
            self._allocations.release()
            raise

    def run(self, crops: U8, *, masked: bool) -> F32:
        """Latents [n, C, s, s] of crops [n, R, R, 3], n at most `rows`; a copy."""
        count = len(crops)
        self._given.arrays["crops"][:count] = crops
        self._given.arrays["grey"][:] = float(masked)
        self._work.run()
        self._cuda.synchronize(self._stream)
        latents: F32 = np.array(self._made.arrays["wide"][:count], np.float32)
        return latents

    def release(self) -> None:
        """Gives graph and memory back."""
        self._work.release()
        self._allocations.release()

    def _queue(self) -> None:
        self._given.queue_to_device(self._stream)
        for call in self._calls:
            call.queue()
        self._made.queue_to_host(self._stream)
