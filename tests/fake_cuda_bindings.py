"""A stand-in for `cuda.bindings.runtime`: what each call takes, gives and refuses, on the host.

api = FakeBindings()
api.answers["cudaMalloc"] = api.cudaError_t.cudaErrorMemoryAllocation

Calls and arguments are those of NVIDIA's manual of the CUDA runtime, in the forms that cuda-python
gives them: every call returns a tuple, its status first; sizes, flags and addresses are whole
numbers of their C types, kinds and modes are its enums, and handles may be its objects or their
numbers. Anything else is a TypeError, as it is there.
"""

from __future__ import annotations

import ctypes
import enum
from types import SimpleNamespace
from typing import Any

SIZE = (1 << 64) - 1
UINT = (1 << 32) - 1
INT = (1 << 31) - 1


class CudaError(enum.IntEnum):
    """Statuses, with NVIDIA's numbers."""

    cudaSuccess = 0  # noqa: N815 - NVIDIA's names
    cudaErrorInvalidValue = 1  # noqa: N815
    cudaErrorMemoryAllocation = 2  # noqa: N815
    cudaErrorInsufficientDriver = 35  # noqa: N815
    cudaErrorInvalidResourceHandle = 400  # noqa: N815
    cudaErrorStreamCaptureInvalidated = 901  # noqa: N815


class MemcpyKind(enum.IntEnum):
    """Directions of copies, with NVIDIA's numbers."""

    cudaMemcpyHostToDevice = 1  # noqa: N815
    cudaMemcpyDeviceToHost = 2  # noqa: N815
    cudaMemcpyDeviceToDevice = 3  # noqa: N815


class CaptureMode(enum.IntEnum):
    """Whom a capture concerns, with NVIDIA's numbers."""

    cudaStreamCaptureModeGlobal = 0  # noqa: N815
    cudaStreamCaptureModeThreadLocal = 1  # noqa: N815


class Handle:
    """A stream, event or graph: a number in an object of its kind."""

    def __init__(self, kind: str, number: int) -> None:
        self.kind, self.number = kind, number

    def __int__(self) -> int:
        return self.number


class FakeBindings:
    """One device whose memory is the host's.

    Attributes:
        calls: (name, arguments) of every call.
        answers: status of a call, by name, in place of success.
        held: addresses and handles that were given out and not given back.
    """

    cudaError_t, cudaMemcpyKind, cudaStreamCaptureMode = CudaError, MemcpyKind, CaptureMode  # noqa: N815
    cudaHostAllocDefault, cudaStreamNonBlocking, cudaEventDisableTiming = 0, 1, 2  # noqa: N815

    def __init__(self, count: int = 1) -> None:
        self.calls: list[tuple[str, tuple[Any, ...]]] = []
        self.answers: dict[str, CudaError] = {}
        self.held: dict[int, Any] = {}
        self._count = count
        self._next = 1000

    def cudaGetDeviceCount(self) -> Any:  # noqa: N802
        return self._called("cudaGetDeviceCount", (), (), self._count)

    def cudaGetDeviceProperties(self, device: int) -> Any:  # noqa: N802
        about = SimpleNamespace(name=b"Stand-in\0\0", major=9, minor=0, totalGlobalMem=1 << 30)
        return self._called("cudaGetDeviceProperties", (device,), (INT,), about)

    def cudaDriverGetVersion(self) -> Any:  # noqa: N802
        return self._called("cudaDriverGetVersion", (), (), 13020)

    def cudaRuntimeGetVersion(self) -> Any:  # noqa: N802
        return self._called("cudaRuntimeGetVersion", (), (), 13000)

    def cudaSetDevice(self, device: int) -> Any:  # noqa: N802
        return self._called("cudaSetDevice", (device,), (INT,))

    def cudaMemGetInfo(self) -> Any:  # noqa: N802
        return self._called("cudaMemGetInfo", (), (), 700, 1000)

    def cudaGetErrorString(self, status: CudaError) -> Any:  # noqa: N802
        return CudaError.cudaSuccess, f"words for {int(status)}".encode()

    def cudaMalloc(self, size: int) -> Any:  # noqa: N802
        return self._called("cudaMalloc", (size,), (SIZE,), *self._memory("cudaMalloc", size))

    def cudaHostAlloc(self, size: int, flags: int) -> Any:  # noqa: N802
        given = self._memory("cudaHostAlloc", size)
        return self._called("cudaHostAlloc", (size, flags), (SIZE, UINT), *given)

    def cudaFree(self, pointer: int) -> Any:  # noqa: N802
        return self._freed("cudaFree", pointer)

    def cudaFreeHost(self, pointer: int) -> Any:  # noqa: N802
        return self._freed("cudaFreeHost", pointer)

    def cudaStreamCreateWithFlags(self, flags: int) -> Any:  # noqa: N802
        return self._called("cudaStreamCreateWithFlags", (flags,), (UINT,), self._handle("stream"))

    def cudaStreamDestroy(self, stream: Any) -> Any:  # noqa: N802
        return self._freed("cudaStreamDestroy", stream)

    def cudaStreamSynchronize(self, stream: Any) -> Any:  # noqa: N802
        return self._called("cudaStreamSynchronize", (stream,), ("stream",))

    def cudaEventCreateWithFlags(self, flags: int) -> Any:  # noqa: N802
        return self._called("cudaEventCreateWithFlags", (flags,), (UINT,), self._handle("event"))

    def cudaEventDestroy(self, event: Any) -> Any:  # noqa: N802
        return self._freed("cudaEventDestroy", event)

    def cudaEventRecord(self, event: Any, stream: Any) -> Any:  # noqa: N802
        return self._called("cudaEventRecord", (event, stream), ("event", "stream"))

    def cudaEventSynchronize(self, event: Any) -> Any:  # noqa: N802
        return self._called("cudaEventSynchronize", (event,), ("event",))

    def cudaMemcpyAsync(  # noqa: N802
        self, to: int, source: int, size: int, kind: MemcpyKind, stream: Any
    ) -> Any:
        arguments = (to, source, size, kind, stream)
        wanted = (SIZE, SIZE, SIZE, MemcpyKind, "stream")
        answer = self._called("cudaMemcpyAsync", arguments, wanted)
        if answer[0] == CudaError.cudaSuccess:
            ctypes.memmove(to, source, size)
        return answer

    def cudaMemcpy2DAsync(  # noqa: N802
        self,
        to: int,
        to_pitch: int,
        source: int,
        source_pitch: int,
        width: int,
        height: int,
        kind: MemcpyKind,
        stream: Any,
    ) -> Any:
        arguments = (to, to_pitch, source, source_pitch, width, height, kind, stream)
        wanted = (SIZE, SIZE, SIZE, SIZE, SIZE, SIZE, MemcpyKind, "stream")
        answer = self._called("cudaMemcpy2DAsync", arguments, wanted)
        if answer[0] == CudaError.cudaSuccess:
            for row in range(height):
                ctypes.memmove(to + row * to_pitch, source + row * source_pitch, width)
        return answer

    def cudaMemsetAsync(self, pointer: int, value: int, size: int, stream: Any) -> Any:  # noqa: N802
        arguments = (pointer, value, size, stream)
        answer = self._called("cudaMemsetAsync", arguments, (SIZE, INT, SIZE, "stream"))
        if answer[0] == CudaError.cudaSuccess:
            ctypes.memset(pointer, value, size)
        return answer

    def cudaStreamBeginCapture(self, stream: Any, mode: CaptureMode) -> Any:  # noqa: N802
        return self._called("cudaStreamBeginCapture", (stream, mode), ("stream", CaptureMode))

    def cudaStreamEndCapture(self, stream: Any) -> Any:  # noqa: N802
        return self._called("cudaStreamEndCapture", (stream,), ("stream",), self._handle("graph"))

    def cudaGraphInstantiate(self, graph: Any, flags: int) -> Any:  # noqa: N802
        made = self._handle("executable")
        return self._called("cudaGraphInstantiate", (graph, flags), ("graph", SIZE), made)

    def cudaGraphDestroy(self, graph: Any) -> Any:  # noqa: N802
        return self._freed("cudaGraphDestroy", graph)

    def cudaGraphLaunch(self, graph: Any, stream: Any) -> Any:  # noqa: N802
        return self._called("cudaGraphLaunch", (graph, stream), ("executable", "stream"))

    def cudaGraphExecDestroy(self, graph: Any) -> Any:  # noqa: N802
        return self._freed("cudaGraphExecDestroy", graph)

    def _called(
        self, name: str, arguments: tuple[Any, ...], wanted: tuple[Any, ...], *results: Any
    ) -> tuple[Any, ...]:
        """The status, and results; None for each of them where the call fails."""
        self.calls.append((name, arguments))
        for value, kind in zip(arguments, wanted, strict=True):
            self._check(name, value, kind)
        status = self.answers.get(name, CudaError.cudaSuccess)
        if status == CudaError.cudaSuccess:
            return (status, *(self._kept(result) for result in results))
        return (status, *(None for _ in results))

    def _check(self, name: str, value: Any, kind: Any) -> None:
        if isinstance(kind, str):  # a handle, or its number
            held = self.held.get(int(value))
            if not isinstance(held, Handle) or held.kind != kind:
                raise TypeError(f"{name}: expected a {kind}, got {value!r}")
        elif isinstance(kind, int):
            if type(value) is not int or not 0 <= value <= kind:
                raise TypeError(f"{name}: expected a number up to {kind}, got {value!r}")
        elif not isinstance(value, kind):
            raise TypeError(f"{name}: expected a {kind.__name__}, got {value!r}")

    def _freed(self, name: str, value: Any) -> tuple[Any, ...]:
        answer = self._called(name, (value,), (object,))
        if answer[0] == CudaError.cudaSuccess and self.held.pop(int(value), None) is None:
            return (CudaError.cudaErrorInvalidValue,)
        return answer

    def _memory(self, name: str, size: int) -> tuple[Any, ...]:
        return ((ctypes.c_uint8 * size)(),) if type(size) is int else (None,)

    def _handle(self, kind: str) -> Handle:
        self._next += 1
        return Handle(kind, self._next)

    def _kept(self, result: Any) -> Any:
        """What the caller gets of it: of memory its address."""
        if isinstance(result, Handle):
            self.held[result.number] = result
        if isinstance(result, ctypes.Array):
            address = ctypes.addressof(result)
            self.held[address] = result
            return address
        return result
