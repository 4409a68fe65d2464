"""What running plans needs of CUDA: memory, copies in one stream, events, captured graphs.

Device memory, streams, events and graphs are numbers that the runtime gave out. Pinned host memory
is a numpy array. Copies are queued and done in the order of their stream; what they read and write
must stay until then.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from engine.media import U8


@dataclass(frozen=True, slots=True)
class CudaDevice:
    """A GPU.

    Attributes:
        name: "NVIDIA H100 80GB HBM3" for example.
        capability: major and minor number of its kind.
        memory_bytes: all of it.
        driver: newest CUDA that the driver takes, 13020 for 13.2.
        runtime: CUDA of the runtime library, in the same numbers.
    """

    name: str
    capability: tuple[int, int]
    memory_bytes: int
    driver: int
    runtime: int


class CudaRuntime(Protocol):
    """One device. Every call raises DeviceError where the device or its driver refuses it."""

    device: CudaDevice

    def allocate(self, size: int) -> int:
        """The address of `size` bytes of device memory, aligned to 256.

        Raises:
            OutOfDeviceMemory: there are fewer left.
        """

    def free(self, address: int) -> None:
        """Gives back what `allocate` gave; waits until the device is done with it."""

    def free_bytes(self) -> int:
        """Device memory that nobody has, other processes included."""

    def allocate_host(self, size: int) -> U8:
        """uint8 [size] of pinned host memory."""

    def free_host(self, array: U8) -> None:
        """Gives back what `allocate_host` gave; no view of it may be used any more."""

    def create_stream(self) -> int: ...

    def destroy_stream(self, stream: int) -> None: ...

    def synchronize(self, stream: int) -> None:
        """Waits until all that was queued is done."""

    def create_event(self) -> int: ...

    def destroy_event(self, event: int) -> None: ...

    def record(self, event: int, stream: int) -> None:
        """Makes the event stand for what was queued so far."""

    def wait_for(self, event: int) -> None:
        """Waits until what the event stands for is done."""

    def copy_to_device(self, address: int, array: U8, stream: int) -> None:
        """Queues a copy of pinned memory to the device."""

    def copy_to_host(self, array: U8, address: int, stream: int) -> None:
        """Queues a copy of device memory to pinned memory, as much as the array holds."""

    def copy(self, to: int, source: int, size: int, stream: int) -> None:
        """Queues a copy from device memory to device memory; they do not overlap."""

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
        """Queues copies of `rows` rows of `width` bytes whose starts lie a pitch apart."""

    def fill(self, address: int, size: int, stream: int) -> None:
        """Queues zeros."""

    def begin_capture(self, stream: int) -> None:
        """From now on what is queued is noted down and not done."""

    def end_capture(self, stream: int) -> int:
        """The graph of what was noted down since `begin_capture`."""

    def launch(self, graph: int, stream: int) -> None:
        """Queues all of a graph."""

    def destroy_graph(self, graph: int) -> None: ...
