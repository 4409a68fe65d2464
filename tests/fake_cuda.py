"""A CUDA device of numpy arrays that does what the real one does late, and refuses what it forbids.

cuda = FakeCuda(capacity=1 << 20)

Copies and calls wait in their stream until somebody waits for them, so a missing wait shows: pinned
memory that a copy is to fill holds `POISON` until then, and one that a copy is to read must not
change until then. Every copy is noted.
"""

from __future__ import annotations

import bisect
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal, TypeVar

import numpy as np

from engine.errors import DeviceError, OutOfDeviceMemory
from engine.media import U8
from engine.plan_runtime.cuda_runtime import CudaDevice

T = TypeVar("T")
Direction = Literal["to device", "to host", "on device"]

POISON = 0xA5
ALIGNMENT = 256


@dataclass(frozen=True, slots=True)
class Copied:
    """A copy that was done."""

    direction: Direction
    size: int


@dataclass(slots=True)
class Operation:
    """Something queued.

    Attributes:
        run: does it.
        arm: called when it is queued, or launched with its graph.
    """

    run: Callable[[], object]
    arm: Callable[[], object] = field(default=lambda: None)


class FakeCuda:
    """A device with so much memory.

    Attributes:
        copies: done so far.
        calls: how often each method was called.
        refuse: names of calls that fail with a DeviceError.
    """

    def __init__(self, capacity: int = 1 << 30, capability: tuple[int, int] = (8, 9)) -> None:
        self.device = CudaDevice("FakeGPU", capability, capacity, 13000, 13000)
        self.capacity = capacity
        self.copies: list[Copied] = []
        self.calls: Counter[str] = Counter()
        self.refuse: set[str] = set()
        self._memory: dict[int, U8] = {}
        self._bases: list[int] = []
        self._next = 1 << 20
        self._pinned: dict[int, U8] = {}
        self._streams: dict[int, list[Operation]] = {}
        self._events: dict[int, tuple[int, int]] = {}
        self._done: Counter[int] = Counter()
        self._graphs: dict[int, list[Operation]] = {}
        self._capture: list[Operation] | None = None
        self._capture_broken = ""

    @property
    def used(self) -> int:
        """Bytes of device memory that are taken."""
        return sum(len(memory) for memory in self._memory.values())

    @property
    def held(self) -> dict[str, int]:
        """Everything that was taken and not given back, by kind."""
        return {
            "device": len(self._memory),
            "pinned": len(self._pinned),
            "streams": len(self._streams),
            "events": len(self._events),
            "graphs": len(self._graphs),
        }

    @property
    def capturing(self) -> bool:
        return self._capture is not None

    def copied(self, direction: Direction) -> int:
        """Bytes copied in this direction so far."""
        return sum(copy.size for copy in self.copies if copy.direction == direction)

    def allocate(self, size: int) -> int:
        self._forbidden_in_capture("allocate")
        if self.used + size > self.capacity:
            raise OutOfDeviceMemory(f"expected {size} bytes of device memory, got none")
        address = self._next
        self._next += -(-size // ALIGNMENT) * ALIGNMENT + ALIGNMENT  # a gap that nobody owns
        self._memory[address] = np.full(size, POISON, np.uint8)
        bisect.insort(self._bases, address)
        return address

    def free(self, address: int) -> None:
        self._forbidden_in_capture("free")
        if address not in self._memory:
            raise DeviceError(f"expected an address that was given out, got {address}")
        for stream in self._streams:
            self._finish(stream)
        del self._memory[address]
        self._bases.remove(address)

    def free_bytes(self) -> int:
        return self.capacity - self.used

    def allocate_host(self, size: int) -> U8:
        self._forbidden_in_capture("allocate_host")
        array = np.full(size, POISON, np.uint8)
        self._pinned[array.ctypes.data] = array
        return array

    def free_host(self, array: U8) -> None:
        self._forbidden_in_capture("free_host")
        del self._pinned[array.ctypes.data]

    def create_stream(self) -> int:
        return self._handle("create_stream", self._streams, [])

    def destroy_stream(self, stream: int) -> None:
        self._finish(stream)
        del self._streams[stream]

    def synchronize(self, stream: int) -> None:
        self._forbidden_in_capture("synchronize")
        self._finish(stream)

    def create_event(self) -> int:
        return self._handle("create_event", self._events, (0, 0))

    def destroy_event(self, event: int) -> None:
        del self._events[event]

    def record(self, event: int, stream: int) -> None:
        self._counted("record")
        self._events[event] = (stream, self._done[stream] + len(self._streams[stream]))

    def wait_for(self, event: int) -> None:
        self._forbidden_in_capture("wait_for")
        stream, until = self._events[event]
        while self._done[stream] < until:
            self._do_next(stream)

    def copy_to_device(self, address: int, array: U8, stream: int) -> None:
        self._counted("copy_to_device")
        self._check_pinned(array)
        target = self.memory(address, array.nbytes)
        staged: list[bytes] = [b""]

        def arm() -> None:
            staged[0] = array.tobytes()

        def run() -> None:
            if staged[0] != array.tobytes():
                raise DeviceError("pinned memory was written before its copy was done")
            target[:] = array
            self.copies.append(Copied("to device", array.nbytes))

        self.queue(Operation(run, arm), stream)

    def copy_to_host(self, array: U8, address: int, stream: int) -> None:
        self._counted("copy_to_host")
        self._check_pinned(array)
        source = self.memory(address, array.nbytes)

        def arm() -> None:
            array[:] = POISON

        def run() -> None:
            array[:] = source
            self.copies.append(Copied("to host", array.nbytes))

        self.queue(Operation(run, arm), stream)

    def copy(self, to: int, source: int, size: int, stream: int) -> None:
        self._counted("copy")
        self._queue_rows(to, size, source, size, size, 1, stream)

    def copy_rows(
        self,
        to: int,
        to_pitch: int,
        source: int,
        source_pitch: int,
        width: int,
        rows: int,
        stream: int,
    ) -> None:
        self._counted("copy_rows")
        self._queue_rows(to, to_pitch, source, source_pitch, width, rows, stream)

    def fill(self, address: int, size: int, stream: int) -> None:
        self._counted("fill")
        target = self.memory(address, size)
        self.queue(Operation(lambda: target.fill(0)), stream)

    def begin_capture(self, stream: int) -> None:
        self._counted("begin_capture")
        if self._capture is not None or self._streams[stream]:
            raise DeviceError("expected an idle stream that is not being captured")
        self._capture, self._capture_broken = [], ""

    def end_capture(self, stream: int) -> int:
        self._counted("end_capture")
        captured, self._capture = self._capture, None
        if captured is None or self._capture_broken:
            raise DeviceError(f"the capture is broken: {self._capture_broken or 'it never began'}")
        return self._handle("instantiate", self._graphs, captured)

    def launch(self, graph: int, stream: int) -> None:
        self._counted("launch")
        for operation in self._graphs[graph]:
            self.queue(operation, stream)

    def destroy_graph(self, graph: int) -> None:
        del self._graphs[graph]

    def queue(self, operation: Operation, stream: int) -> None:
        """Queues an operation, or notes it down in a capture."""
        if stream not in self._streams:
            raise DeviceError(f"expected a stream, got {stream}")
        if self._capture is not None:
            self._capture.append(operation)
            return
        operation.arm()
        self._streams[stream].append(operation)

    def memory(self, address: int, size: int) -> U8:
        """The bytes at an address, which must all lie in one piece that was given out."""
        place = bisect.bisect_right(self._bases, address) - 1
        base = self._bases[place] if place >= 0 else None
        if base is None or address + size > base + len(self._memory[base]):
            raise DeviceError(f"no memory of {size} bytes at {address}")
        return self._memory[base][address - base : address - base + size]

    def _queue_rows(
        self,
        to: int,
        to_pitch: int,
        source: int,
        source_pitch: int,
        width: int,
        rows: int,
        stream: int,
    ) -> None:
        if width > min(to_pitch, source_pitch):
            raise DeviceError(f"rows of {width} bytes lie {to_pitch} and {source_pitch} apart")
        target = self.memory(to, (rows - 1) * to_pitch + width)
        given = self.memory(source, (rows - 1) * source_pitch + width)
        if np.shares_memory(target, given):
            raise DeviceError("a copy overlaps with what it copies")

        def run() -> None:
            # Looked up again: the memory may have been freed since.
            ends = self.memory(to, target.nbytes), self.memory(source, given.nbytes)
            for row in range(rows):
                start = row * source_pitch
                ends[0][row * to_pitch :][:width] = ends[1][start : start + width]
            self.copies.append(Copied("on device", width * rows))

        self.queue(Operation(run), stream)

    def _do_next(self, stream: int) -> None:
        operation = self._streams[stream].pop(0)
        self._done[stream] += 1
        operation.run()

    def _finish(self, stream: int) -> None:
        while self._streams[stream]:
            self._do_next(stream)

    def _check_pinned(self, array: U8) -> None:
        start = array.ctypes.data
        inside = (
            base <= start and start + array.nbytes <= base + pinned.nbytes
            for base, pinned in self._pinned.items()
        )
        if array.dtype != np.uint8 or not array.flags.c_contiguous or not any(inside):
            raise DeviceError("expected contiguous bytes of pinned memory")

    def _forbidden_in_capture(self, name: str) -> None:
        self._counted(name)
        if self._capture is not None:
            self._capture_broken = f"{name} was called"
            raise DeviceError(f"{name} is forbidden in a capture")

    def _counted(self, name: str) -> None:
        self.calls[name] += 1
        if name in self.refuse:
            raise DeviceError(f"{name} was refused")

    def _handle(self, name: str, kept: dict[int, T], value: T) -> int:
        self._counted(name)
        self._next += ALIGNMENT
        kept[self._next] = value
        return self._next
