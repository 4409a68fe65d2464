"""Every call to CUDA gives what its bindings take, and what they refuse is an error with words."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from engine.errors import DeviceError, OutOfDeviceMemory
from engine.plan_runtime import cuda_driver
from engine.plan_runtime.cuda_driver import CudaDriver, described_device, load_bindings
from engine.plan_runtime.cuda_runtime import CudaDevice
from tests.fake_cuda_bindings import CudaError, FakeBindings


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch) -> FakeBindings:
    fake = FakeBindings()
    monkeypatch.setattr(cuda_driver, "load_bindings", lambda: fake)
    return fake


@pytest.fixture
def driver(api: FakeBindings) -> CudaDriver:
    return CudaDriver()


def test_the_first_gpu_is_described_and_taken(api: FakeBindings, driver: CudaDriver) -> None:
    assert driver.device == CudaDevice("Stand-in", (9, 0), 1 << 30, 13020, 13000)
    assert ("cudaSetDevice", (0,)) in api.calls
    assert driver.free_bytes() == 700


def test_memory_goes_to_the_device_and_comes_back(api: FakeBindings, driver: CudaDriver) -> None:
    stream = driver.create_stream()
    pinned, device = driver.allocate_host(12), driver.allocate(12)
    other = driver.allocate(24)
    pinned[:] = np.arange(12)
    driver.copy_to_device(device, pinned, stream)
    driver.fill(other, 24, stream)
    driver.copy_rows(other + 1, 8, device, 4, 3, 3, stream)  # three of every four bytes
    driver.copy(other + 23, device + 11, 1, stream)
    back = driver.allocate_host(24)
    driver.copy_to_host(back, other, stream)
    driver.synchronize(stream)
    rows = [[0, 4 * row, 4 * row + 1, 4 * row + 2, 0, 0, 0, 0] for row in range(3)]
    rows[2][7] = 11
    assert back.reshape(3, 8).tolist() == rows
    for address in (device, other):
        driver.free(address)
    for array in (pinned, back):
        driver.free_host(array)
    driver.destroy_stream(stream)
    assert api.held == {}


def test_a_graph_is_captured_launched_and_given_back(api: FakeBindings, driver: CudaDriver) -> None:
    stream, event = driver.create_stream(), driver.create_event()
    driver.begin_capture(stream)
    graph = driver.end_capture(stream)
    assert "cudaGraphDestroy" in dict(api.calls)  # the graph itself, once it is executable
    driver.launch(graph, stream)
    driver.record(event, stream)
    driver.wait_for(event)
    driver.destroy_graph(graph)
    driver.destroy_event(event)
    driver.destroy_stream(stream)
    assert api.held == {}


CALLS: dict[str, Callable[[CudaDriver, Any], object]] = {
    "cudaMemGetInfo": lambda cuda, has: cuda.free_bytes(),
    "cudaFree": lambda cuda, has: cuda.free(has.address),
    "cudaFreeHost": lambda cuda, has: cuda.free_host(has.pinned),
    "cudaStreamCreateWithFlags": lambda cuda, has: cuda.create_stream(),
    "cudaStreamDestroy": lambda cuda, has: cuda.destroy_stream(has.stream),
    "cudaStreamSynchronize": lambda cuda, has: cuda.synchronize(has.stream),
    "cudaEventCreateWithFlags": lambda cuda, has: cuda.create_event(),
    "cudaEventDestroy": lambda cuda, has: cuda.destroy_event(has.event),
    "cudaEventRecord": lambda cuda, has: cuda.record(has.event, has.stream),
    "cudaEventSynchronize": lambda cuda, has: cuda.wait_for(has.event),
    "cudaMemcpyAsync": lambda cuda, has: cuda.copy_to_host(has.pinned, has.address, has.stream),
    "cudaMemcpy2DAsync": lambda cuda, has: cuda.copy_rows(
        has.address, 4, has.address, 4, 2, 2, has.stream
    ),
    "cudaMemsetAsync": lambda cuda, has: cuda.fill(has.address, 4, has.stream),
    "cudaStreamBeginCapture": lambda cuda, has: cuda.begin_capture(has.stream),
    "cudaStreamEndCapture": lambda cuda, has: cuda.end_capture(has.stream),
    "cudaGraphInstantiate": lambda cuda, has: cuda.end_capture(has.stream),
    "cudaGraphLaunch": lambda cuda, has: cuda.launch(has.graph, has.stream),
    "cudaGraphExecDestroy": lambda cuda, has: cuda.destroy_graph(has.graph),
}


class Has:
    """One of everything that calls are about."""

    def __init__(self, cuda: CudaDriver) -> None:
        self.address, self.pinned = cuda.allocate(16), cuda.allocate_host(16)
        self.stream, self.event = cuda.create_stream(), cuda.create_event()
        cuda.begin_capture(self.stream)
        self.graph = cuda.end_capture(self.stream)


@pytest.mark.parametrize("name", CALLS)
def test_a_call_that_cuda_refuses_is_an_error_with_its_name_status_and_words(
    api: FakeBindings, driver: CudaDriver, name: str
) -> None:
    has = Has(driver)
    api.answers[name] = CudaError.cudaErrorInvalidResourceHandle
    with pytest.raises(
        DeviceError, match=f"^{name}: cudaErrorInvalidResourceHandle, words for 400$"
    ):
        CALLS[name](driver, has)


def test_a_capture_that_cannot_be_made_executable_leaves_no_graph(
    api: FakeBindings, driver: CudaDriver
) -> None:
    has = Has(driver)
    held = len(api.held)
    api.answers["cudaGraphInstantiate"] = CudaError.cudaErrorInvalidValue
    with pytest.raises(DeviceError, match="cudaGraphInstantiate"):
        driver.end_capture(has.stream)
    assert len(api.held) == held


@pytest.mark.parametrize(
    ("name", "call", "wanted"),
    [
        ("cudaMalloc", lambda cuda: cuda.allocate(1234), "1234 bytes of device memory"),
        ("cudaHostAlloc", lambda cuda: cuda.allocate_host(12), "pinned memory"),
    ],
)
def test_memory_that_there_is_not_is_an_error_of_its_own(
    api: FakeBindings,
    driver: CudaDriver,
    name: str,
    call: Callable[[CudaDriver], object],
    wanted: str,
) -> None:
    api.answers[name] = CudaError.cudaErrorMemoryAllocation
    with pytest.raises(OutOfDeviceMemory, match=rf"expected {wanted}, got {name}: .*words for 2"):
        call(driver)


@pytest.mark.parametrize(
    "name",
    ["cudaGetDeviceCount", "cudaGetDeviceProperties", "cudaSetDevice", "cudaDriverGetVersion"],
)
def test_a_driver_that_is_too_old_is_said_at_the_start(api: FakeBindings, name: str) -> None:
    api.answers[name] = CudaError.cudaErrorInsufficientDriver
    with pytest.raises(DeviceError, match=f"{name}: cudaErrorInsufficientDriver"):
        CudaDriver()


def test_a_machine_without_a_gpu_is_said() -> None:
    with pytest.raises(DeviceError, match="expected a CUDA device, found none"):
        described_device(FakeBindings(count=0))


def test_bindings_that_are_not_there_are_said_with_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def absent(name: str) -> None:
        raise ImportError("no module")

    monkeypatch.setattr(importlib, "import_module", absent)
    with pytest.raises(DeviceError, match=r'no module; pip install "cuda-bindings<14"'):
        load_bindings()


def real_bindings() -> Any:
    """NVIDIA's own, on a machine where no call can do anything."""
    api = pytest.importorskip("cuda.bindings.runtime")
    if api.cudaGetDeviceCount()[0] == api.cudaError_t.cudaSuccess:
        pytest.skip("with a GPU the made-up addresses would be used")
    return api


def test_nvidias_own_bindings_have_all_that_the_stand_in_has() -> None:
    api, fake = real_bindings(), FakeBindings()
    for name in filter(lambda name: name.startswith("cuda"), dir(fake)):
        there = getattr(fake, name)
        if isinstance(there, int):
            assert getattr(api, name) == there
        elif isinstance(there, type):
            for member in there:  # type: ignore[attr-defined]
                assert int(getattr(getattr(api, name), member.name)) == int(member)
        else:
            assert callable(getattr(api, name))


@pytest.mark.parametrize("name", CALLS)
def test_nvidias_own_bindings_take_the_arguments_of_every_call(name: str) -> None:
    api = real_bindings()
    driver: CudaDriver = object.__new__(CudaDriver)
    vars(driver).update(
        _api=api,
        _to_device=api.cudaMemcpyKind.cudaMemcpyHostToDevice,
        _to_host=api.cudaMemcpyKind.cudaMemcpyDeviceToHost,
        _within=api.cudaMemcpyKind.cudaMemcpyDeviceToDevice,
    )
    has: Any = object.__new__(Has)
    vars(has).update(address=4096, pinned=np.zeros(4, np.uint8), stream=5, event=6, graph=7)
    if name == "cudaGraphInstantiate":  # not reached: its graph comes from cudaStreamEndCapture
        assert len(api.cudaGraphInstantiate(api.cudaGraph_t(7), 0)) == 2
        return
    with pytest.raises(DeviceError, match=f"^{name}: cudaError"):
        CALLS[name](driver, has)
