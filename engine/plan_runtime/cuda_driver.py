"""CUDA through NVIDIA's own bindings: `cuda.bindings.runtime`, of the package cuda-bindings.

Every call gives a status first; anything but success becomes a DeviceError with the call's name,
the status and NVIDIA's words for it.
"""

from __future__ import annotations

import ctypes
import importlib
from typing import Any

import numpy as np

from engine.errors import DeviceError, OutOfDeviceMemory
from engine.media import U8
from engine.plan_runtime.cuda_runtime import CudaDevice

_NAME = "cuda.bindings.runtime"


def load_bindings() -> Any:
    """NVIDIA's bindings of the CUDA runtime.

    Raises:
        DeviceError: they are not installed, or cannot be loaded.
    """
    try:
        return importlib.import_module(_NAME)
    except (ImportError, OSError, RuntimeError) as error:
        raise DeviceError(
            f'cannot load {_NAME}: {error}; pip install "cuda-bindings<14"'
        ) from error


class CudaDriver:
    """The first GPU that the process may see (CUDA_VISIBLE_DEVICES)."""

    def __init__(self) -> None:
        """Takes the device.

        Raises:
            DeviceError: no bindings, no driver, one too old, or no GPU.
        """
        self._api = load_bindings()
        kinds = self._api.cudaMemcpyKind
        self._to_device = kinds.cudaMemcpyHostToDevice
        self._to_host = kinds.cudaMemcpyDeviceToHost
        self._within = kinds.cudaMemcpyDeviceToDevice
        self.device = described_device(self._api)
        self._call("cudaSetDevice", 0)

    def allocate(self, size: int) -> int:
        return int(self._call("cudaMalloc", size, wanted=f"{size} bytes of device memory"))

    def free(self, address: int) -> None:
        self._call("cudaFree", address)

    def free_bytes(self) -> int:
        free, _total = self._call("cudaMemGetInfo")
        return int(free)

    def allocate_host(self, size: int) -> U8:
        address = int(
            self._call(
                "cudaHostAlloc", size, self._api.cudaHostAllocDefault, wanted="pinned memory"
            )
        )
        memory = (ctypes.c_uint8 * size).from_address(address)
        return np.ctypeslib.as_array(memory)

    def free_host(self, array: U8) -> None:
        self._call("cudaFreeHost", array.ctypes.data)

    def create_stream(self) -> int:
        flag = self._api.cudaStreamNonBlocking
        return int(self._call("cudaStreamCreateWithFlags", flag))

    def destroy_stream(self, stream: int) -> None:
        self._call("cudaStreamDestroy", stream)

    def synchronize(self, stream: int) -> None:
        self._call("cudaStreamSynchronize", stream)

    def create_event(self) -> int:
        return int(self._call("cudaEventCreateWithFlags", self._api.cudaEventDisableTiming))

    def destroy_event(self, event: int) -> None:
        self._call("cudaEventDestroy", event)

    def record(self, event: int, stream: int) -> None:
        self._call("cudaEventRecord", event, stream)

    def wait_for(self, event: int) -> None:
        self._call("cudaEventSynchronize", event)

    def copy_to_device(self, address: int, array: U8, stream: int) -> None:
        source, size = array.ctypes.data, array.nbytes
        self._call("cudaMemcpyAsync", address, source, size, self._to_device, stream)

    def copy_to_host(self, array: U8, address: int, stream: int) -> None:
        to, size = array.ctypes.data, array.nbytes
        self._call("cudaMemcpyAsync", to, address, size, self._to_host, stream)

    def copy(self, to: int, source: int, size: int, stream: int) -> None:
        self._call("cudaMemcpyAsync", to, source, size, self._within, stream)

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
        places = (to, to_pitch, source, source_pitch)
        self._call("cudaMemcpy2DAsync", *places, width, rows, self._within, stream)

    def fill(self, address: int, size: int, stream: int) -> None:
        self._call("cudaMemsetAsync", address, 0, size, stream)

    def begin_capture(self, stream: int) -> None:
        # Of this thread only: what others do meanwhile is none of the graph's business.
        mode = self._api.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
        self._call("cudaStreamBeginCapture", stream, mode)

    def end_capture(self, stream: int) -> int:
        graph = self._call("cudaStreamEndCapture", stream)
        try:
            return int(self._call("cudaGraphInstantiate", graph, 0))
        finally:
            self._call("cudaGraphDestroy", graph)

    def launch(self, graph: int, stream: int) -> None:
        self._call("cudaGraphLaunch", graph, stream)

    def destroy_graph(self, graph: int) -> None:
        self._call("cudaGraphExecDestroy", graph)

    def _call(self, name: str, *arguments: Any, wanted: str = "") -> Any:
        return _called(self._api, name, *arguments, wanted=wanted)


def described_device(api: Any) -> CudaDevice:
    """The first GPU; it is only looked at, which takes no memory of it.

    Args:
        api: from `load_bindings`.

    Raises:
        DeviceError: no driver, one too old for these bindings, or no GPU.
    """
    if _called(api, "cudaGetDeviceCount") < 1:
        raise DeviceError("expected a CUDA device, found none")
    about = _called(api, "cudaGetDeviceProperties", 0)
    return CudaDevice(
        about.name.decode().strip("\0 "),
        (int(about.major), int(about.minor)),
        int(about.totalGlobalMem),
        int(_called(api, "cudaDriverGetVersion")),
        int(_called(api, "cudaRuntimeGetVersion")),
    )


def _called(api: Any, name: str, *arguments: Any, wanted: str = "") -> Any:
    """The call's result; None where it has none, a list where it has several."""
    status, *result = getattr(api, name)(*arguments)
    if status != api.cudaError_t.cudaSuccess:
        _, words = api.cudaGetErrorString(status)
        said = f"{name}: {status.name}, {words.decode()}"
        if status == api.cudaError_t.cudaErrorMemoryAllocation:
            raise OutOfDeviceMemory(f"expected {wanted or 'memory'}, got {said}")
        raise DeviceError(said)
    if len(result) > 1:
        return result
    return result[0] if result else None
