"""The fake GPU says no where a real one would: that is what tests over it rest on."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from engine.errors import DeviceError, OutOfDeviceMemory
from tests.fake_cuda import ALIGNMENT, POISON, FakeCuda


@pytest.fixture
def cuda() -> FakeCuda:
    return FakeCuda(capacity=4096)


@pytest.fixture
def stream(cuda: FakeCuda) -> int:
    return cuda.create_stream()


def test_memory_beyond_its_capacity_is_refused_and_freed_memory_is_there_again(
    cuda: FakeCuda,
) -> None:
    first = cuda.allocate(4000)
    assert first % ALIGNMENT == 0 and cuda.free_bytes() == 96
    with pytest.raises(OutOfDeviceMemory, match="expected 200 bytes"):
        cuda.allocate(200)
    cuda.free(first)
    assert cuda.allocate(4096) != first


def test_memory_that_was_not_given_out_or_was_given_back_is_refused(
    cuda: FakeCuda, stream: int
) -> None:
    address, pinned = cuda.allocate(8), cuda.allocate_host(16)
    for size, at in ((9, address), (1, address - 1), (8, address + 1), (1, address + 8)):
        with pytest.raises(DeviceError, match="no memory of"):
            cuda.fill(at, size, stream)
    with pytest.raises(DeviceError, match="no memory of 16 bytes"):
        cuda.copy_to_host(pinned, address, stream)
    cuda.free(address)
    with pytest.raises(DeviceError, match="no memory of"):
        cuda.fill(address, 8, stream)
    with pytest.raises(DeviceError, match="given out"):
        cuda.free(address)


def test_memory_freed_under_a_queued_copy_is_used_first(cuda: FakeCuda, stream: int) -> None:
    source, to = cuda.allocate(8), cuda.allocate(8)
    cuda.fill(source, 8, stream)
    cuda.copy(to, source, 8, stream)
    cuda.free(source)  # waits for the device, as cudaFree does
    assert cuda.copied("on device") == 8


def test_memory_holds_no_zeros_until_somebody_writes_them(cuda: FakeCuda, stream: int) -> None:
    address = cuda.allocate(8)
    assert set(cuda.memory(address, 8)) == {POISON}
    cuda.fill(address, 4, stream)
    assert set(cuda.memory(address, 8)) == {POISON}  # queued and not done
    cuda.synchronize(stream)
    assert cuda.memory(address, 8).tolist() == [0] * 4 + [POISON] * 4


def test_only_contiguous_bytes_of_pinned_memory_are_copied(cuda: FakeCuda, stream: int) -> None:
    address, pinned = cuda.allocate(8), cuda.allocate_host(16)
    for array in (np.zeros(8, np.uint8), pinned[::2], pinned.view(np.float32)[:2]):
        with pytest.raises(DeviceError, match="contiguous bytes of pinned memory"):
            cuda.copy_to_device(address, array, stream)  # type: ignore[arg-type]
        with pytest.raises(DeviceError, match="contiguous bytes of pinned memory"):
            cuda.copy_to_host(array, address, stream)  # type: ignore[arg-type]
    cuda.free_host(pinned)
    with pytest.raises(DeviceError, match="contiguous bytes of pinned memory"):
        cuda.copy_to_device(address, pinned[:8], stream)


def test_what_a_copy_is_to_read_must_not_change_until_it_is_done(
    cuda: FakeCuda, stream: int
) -> None:
    address, pinned = cuda.allocate(8), cuda.allocate_host(8)
    cuda.copy_to_device(address, pinned, stream)
    pinned[0] = 1
    with pytest.raises(DeviceError, match="written before its copy was done"):
        cuda.synchronize(stream)


def test_what_a_copy_is_to_fill_is_spoilt_until_somebody_waits(cuda: FakeCuda, stream: int) -> None:
    address, pinned = cuda.allocate(8), cuda.allocate_host(8)
    cuda.fill(address, 8, stream)
    cuda.copy_to_host(pinned, address, stream)
    event = cuda.create_event()
    cuda.record(event, stream)
    cuda.copy_to_host(pinned, address, stream)
    assert set(pinned) == {POISON}
    cuda.synchronize(stream)
    assert set(pinned) == {0}


def test_an_event_waits_for_what_was_queued_before_it_and_no_more(
    cuda: FakeCuda, stream: int
) -> None:
    first, second, event = cuda.allocate(1), cuda.allocate(1), cuda.create_event()
    cuda.fill(first, 1, stream)
    cuda.record(event, stream)
    cuda.fill(second, 1, stream)
    cuda.wait_for(event)
    assert cuda.memory(first, 1)[0] == 0 and cuda.memory(second, 1)[0] == POISON


def test_copies_that_overlap_or_whose_rows_do_are_refused(cuda: FakeCuda, stream: int) -> None:
    address, other = cuda.allocate(64), cuda.allocate(64)
    with pytest.raises(DeviceError, match="overlaps"):
        cuda.copy(address + 4, address, 8, stream)
    with pytest.raises(DeviceError, match="rows of 8 bytes lie 4 and 8 apart"):
        cuda.copy_rows(other, 4, address, 8, 8, 2, stream)
    with pytest.raises(DeviceError, match="no memory of 72 bytes"):
        cuda.copy_rows(other, 32, address, 16, 8, 3, stream)


@pytest.mark.parametrize(
    "call",
    [
        lambda cuda, stream: cuda.allocate(1),
        lambda cuda, stream: cuda.free(1),
        lambda cuda, stream: cuda.allocate_host(1),
        lambda cuda, stream: cuda.free_host(np.zeros(1, np.uint8)),
        lambda cuda, stream: cuda.synchronize(stream),
        lambda cuda, stream: cuda.wait_for(1),
    ],
    ids=["allocate", "free", "allocate_host", "free_host", "synchronize", "wait_for"],
)
def test_a_capture_forbids_memory_and_waiting_and_is_lost_by_them(
    cuda: FakeCuda, stream: int, call: Callable[[FakeCuda, int], object]
) -> None:
    cuda.begin_capture(stream)
    with pytest.raises(DeviceError, match="forbidden in a capture"):
        call(cuda, stream)
    with pytest.raises(DeviceError, match="the capture is broken"):
        cuda.end_capture(stream)


def test_a_capture_begins_on_an_idle_stream_once_and_ends_once(cuda: FakeCuda, stream: int) -> None:
    address = cuda.allocate(1)
    cuda.fill(address, 1, stream)
    with pytest.raises(DeviceError, match="idle stream"):
        cuda.begin_capture(stream)
    cuda.synchronize(stream)
    cuda.begin_capture(stream)
    with pytest.raises(DeviceError, match="idle stream"):
        cuda.begin_capture(stream)
    cuda.end_capture(stream)
    with pytest.raises(DeviceError, match="it never began"):
        cuda.end_capture(stream)


def test_what_is_captured_is_done_at_each_launch_and_not_before(
    cuda: FakeCuda, stream: int
) -> None:
    address = cuda.allocate(1)
    cuda.begin_capture(stream)
    cuda.fill(address, 1, stream)
    graph = cuda.end_capture(stream)
    cuda.synchronize(stream)
    assert cuda.memory(address, 1)[0] == POISON
    for _ in range(2):
        cuda.memory(address, 1)[:] = 7
        cuda.launch(graph, stream)
        cuda.synchronize(stream)
        assert cuda.memory(address, 1)[0] == 0
    cuda.destroy_graph(graph)
    with pytest.raises(KeyError):
        cuda.launch(graph, stream)


def test_a_stream_that_is_not_there_takes_nothing(cuda: FakeCuda, stream: int) -> None:
    cuda.destroy_stream(stream)
    with pytest.raises(DeviceError, match="expected a stream"):
        cuda.fill(cuda.allocate(1), 1, stream)
