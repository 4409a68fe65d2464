"""One hop of a bucket of sessions: its tensors, bound once, and its work, captured once.

    staged log-mels, faces, places -> [one copy in] -> plans, step by step -> [crops out]

What lies between the copies stays on the device. Buckets run one after the other in one stream, so
they share everything but what is staged.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

import numpy as np
from numpy.typing import NDArray

from engine.media import F32, U8
from engine.plan_runtime.captured import CapturedWork
from engine.plan_runtime.hop_buffers import STAGED, HopBuffers, buffer_key
from engine.plan_runtime.hop_way import hop_plans
from engine.plan_runtime.memory import Allocations, Field, StagedBlock
from engine.plan_runtime.plan_engine import NUMPY_TYPES, PlanCall


class HopProgram:
    """One hop of one bucket."""

    def __init__(self, buffers: HopBuffers, bucket: int, scratch: tuple[int, int]) -> None:
        """Binds every tensor, runs once and captures.

        Args:
            scratch: address and size of the memory that all plans share.

        Raises:
            DeviceError: the runtime refuses a binding or a call.
        """
        self._buffers, self._bucket = buffers, bucket
        cuda, stream = buffers.cuda, buffers.stream
        self._allocations = Allocations(cuda)
        self._done = cuda.create_event()
        try:
            self._staged = StagedBlock(cuda, self._allocations, self._fields())
            self._calls = self._bound(scratch)
            name = f"a hop of {buffers.hop} frames in a batch of {bucket}"
            self._work = CapturedWork(cuda, stream, name, self._queue)
        except BaseException:
            cuda.destroy_event(self._done)
            self._allocations.release()
            raise

    @property
    def inputs(self) -> Mapping[str, NDArray[np.generic]]:
        """Staged arrays [bucket, ...] by name; rows that are no session's may hold anything.

        Those of a guided U-Net are [bucket, 2, ...]: without sound, and with it.
        """
        return self._staged.arrays

    @property
    def is_captured(self) -> bool:
        return self._work.is_captured

    def run(self) -> None:
        """Queues the hop, over what lies in `inputs` and in the slab's first rows."""
        self._work.run()
        self._buffers.cuda.record(self._done, self._buffers.stream)

    def wait(self) -> tuple[U8, F32 | None]:
        """Waits for what `run` queued, and not for what was queued since.

        Returns:
            Crops [bucket, h, R, R, 3] and, where the model has them, warps
            [bucket, h, WARP_CHANNELS, s, s]; until the next run of any bucket.
        """
        self._buffers.cuda.wait_for(self._done)
        results = {
            name: result.array(self._bucket, self._buffers.hop)
            for name, result in self._buffers.results.items()
        }
        return cast(U8, results["crops"]), cast(F32 | None, results.get("warp"))

    def release(self) -> None:
        """Gives graph, event and staging memory back."""
        self._work.release()
        self._buffers.cuda.destroy_event(self._done)
        self._allocations.release()

    def _fields(self) -> dict[str, Field]:
        fields = {}
        for plan in ("hop_start", "unet"):
            rows = self._buffers.session_rows(plan)
            lead = (self._bucket, rows) if rows > 1 else (self._bucket,)
            for b in self._buffers.bindings[plan]:
                if b.buffer in STAGED:
                    kind = NUMPY_TYPES[b.tensor.dtype]
                    fields[b.tensor.name] = Field(kind, (*lead, *b.tensor.shape))
        return fields

    def _bound(self, scratch: tuple[int, int]) -> dict[tuple[str, int], PlanCall]:
        """A call of every plan for every step; of those that know no step, for step 0."""
        buffers = self._buffers
        addresses = buffers.addresses | self._staged.addresses
        calls = {}
        for plan in hop_plans(buffers.spec, buffers.hop):
            bindings = buffers.bindings[plan]
            rows = self._bucket * buffers.session_rows(plan)
            stepped = any(binding.each_step for binding in bindings)
            for step in range(len(buffers.spec.timesteps) if stepped else 1):
                bound = {b.tensor.name: addresses[buffer_key(b, step)] for b in bindings}
                calls[plan, step] = buffers.plans[plan].call(rows, scratch, bound, buffers.stream)
        return calls

    def _queue(self) -> None:
        buffers, steps = self._buffers, len(self._buffers.spec.timesteps)
        self._staged.queue_to_device(buffers.stream)
        self._calls["hop_start", 0].queue()
        self._calls["audio_encoder", 0].queue()
        if ("hop_audio", 0) in self._calls:
            self._calls["hop_audio", 0].queue()
        for step in range(steps):
            self._calls["unet", step].queue()
            self._calls["hop_step", step].queue()
            if step + 1 < steps:
                self._hand_over()
        self._calls["codec_decoder", 0].queue()
        self._calls["hop_finish", 0].queue()
        for result in buffers.results.values():
            buffers.cuda.copy_to_host(result.first(self._bucket), result.address, buffers.stream)

    def _hand_over(self) -> None:
        """What one step gives becomes what the next one reads."""
        cuda, addresses, row_bytes = (
            self._buffers.cuda,
            self._buffers.addresses,
            self._buffers.row_bytes,
        )
        stream, size = self._buffers.stream, self._bucket * row_bytes("latents")
        cuda.copy(addresses["latents"], addresses["next"], size, stream)
        # The noisy latents are the first channels of each row's sample.
        rows = self._buffers.session_rows("unet")
        width, pitch = row_bytes("noisy") // rows, row_bytes("sample") // rows
        to, source = addresses["sample"], addresses["noisy"]
        cuda.copy_rows(to, pitch, source, width, width, self._bucket * rows, stream)
