"""Memory that is taken piece by piece and given back together; arrays packed into one piece."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import DTypeLike, NDArray

from engine.media import U8
from engine.plan_runtime.cuda_runtime import CudaRuntime

ALIGNMENT = 256  # what TensorRT asks of scratch memory, and more than any tensor needs


def aligned(size: int) -> int:
    """The next multiple of `ALIGNMENT`."""
    return -(-size // ALIGNMENT) * ALIGNMENT


class Allocations:
    """Device and pinned memory of one owner."""

    def __init__(self, cuda: CudaRuntime) -> None:
        self._cuda = cuda
        self._device: list[int] = []
        self._host: list[U8] = []

    def device(self, size: int) -> int:
        """The address of new device memory.

        Raises:
            OutOfDeviceMemory: there is too little left.
        """
        address = self._cuda.allocate(aligned(max(size, 1)))
        self._device.append(address)
        return address

    def host(self, size: int) -> U8:
        """New pinned memory, filled with zeros."""
        array = self._cuda.allocate_host(aligned(max(size, 1)))
        array[:] = 0
        self._host.append(array)
        return array

    def release(self) -> None:
        """Gives all of it back."""
        while self._device:
            self._cuda.free(self._device.pop())
        while self._host:
            self._cuda.free_host(self._host.pop())


@dataclass(frozen=True, slots=True)
class Field:
    """An array in a packed block."""

    dtype: DTypeLike
    shape: tuple[int, ...]

    @property
    def size(self) -> int:
        return int(np.dtype(self.dtype).itemsize * np.prod(self.shape, dtype=np.int64))


class StagedBlock:
    """Arrays that lie one after the other in pinned memory and on the device: one copy moves all.

    Attributes:
        arrays: by name, on the host.
        addresses: by name, on the device.
    """

    def __init__(
        self, cuda: CudaRuntime, allocations: Allocations, fields: Mapping[str, Field]
    ) -> None:
        self._cuda = cuda
        size = sum(aligned(field.size) for field in fields.values())
        self._host = allocations.host(size)
        self._device = allocations.device(size)
        self.arrays: dict[str, NDArray[np.generic]] = {}
        self.addresses: dict[str, int] = {}
        start = 0
        for name, field in fields.items():
            part = self._host[start : start + field.size]
            self.arrays[name] = part.view(field.dtype).reshape(field.shape)
            self.addresses[name] = self._device + start
            start += aligned(field.size)

    def queue_to_device(self, stream: int) -> None:
        """Queues the copy of all arrays to the device."""
        self._cuda.copy_to_device(self._device, self._host, stream)

    def queue_to_host(self, stream: int) -> None:
        """Queues the copy of all arrays to the host."""
        self._cuda.copy_to_host(self._host, self._device, stream)
