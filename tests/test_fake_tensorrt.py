"""The fake TensorRT says no where the real one would: that is what tests over it rest on."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from engine.backends.tensorrt_plans import ServedPlans
from engine.errors import BackendError, DeviceError
from engine.plan_runtime.plan_engine import PlanEngine
from export.serving_plans import write_serving_graph
from export.tensorrt_builder import Graph
from tests.fake_cuda import FakeCuda
from tests.fake_tensorrt import SCRATCH_BYTES, FakeTensorRt
from tests.tiny_models import TINY_SPEC

NAME = "hop_step"  # several inputs and outputs of two types


class Bench:
    """One plan, loaded, and memory for every tensor."""

    def __init__(self, graph: Graph) -> None:
        self.cuda = FakeCuda()
        self.api = FakeTensorRt(self.cuda)
        self.stream = self.cuda.create_stream()
        self.data = self.api.plan_of(graph)
        self.engine = PlanEngine(self.api, self.cuda, self.data, NAME)
        self.rows = 2
        self.scratch = (self.cuda.allocate(SCRATCH_BYTES * self.rows), SCRATCH_BYTES * self.rows)
        self.addresses = {
            tensor.name: self.cuda.allocate(self.rows * tensor.row_bytes)
            for tensor in self.engine.tensors
        }
        for tensor in self.engine.tensors:
            self.cuda.fill(self.addresses[tensor.name], self.rows * tensor.row_bytes, self.stream)
        self.cuda.synchronize(self.stream)

    def call(self) -> Any:
        return self.engine.call(self.rows, self.scratch, self.addresses, self.stream)

    def context(self) -> Any:
        """An execution context of the package itself, without our runtime's care."""
        runtime = self.api.Runtime(self.engine._log)
        engine = runtime.deserialize_cuda_engine(self.data)
        assert engine is not None
        return engine.create_execution_context("user managed")

    def said(self) -> str:
        return " ".join(self.engine._log.lines)


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> Graph:
    folder = tmp_path_factory.mktemp("graph")  # it has no weights, so that there is no model
    served = ServedPlans("tensorrt", folder, TINY_SPEC, 4, (1, 2, 4), "f32")
    return write_serving_graph(served, NAME, folder)


@pytest.fixture
def bench(graph: Graph) -> Bench:
    return Bench(graph)


def test_a_call_is_done_when_somebody_waits_and_spoils_its_scratch_memory(bench: Bench) -> None:
    tensor = next(tensor for tensor in bench.engine.tensors if tensor.name == "next")
    address, size = bench.addresses["next"], bench.rows * tensor.row_bytes
    bench.call().queue()
    bench.cuda.synchronize(bench.stream)
    assert not bench.cuda.memory(address, size).any()  # a sum of zeros
    assert set(bench.cuda.memory(*bench.scratch)) == {0x5C}


def test_a_context_with_a_tensor_unbound_refuses_its_call(bench: Bench) -> None:
    context = bench.context()
    context.set_optimization_profile_async(1, bench.stream)
    context.set_device_memory(*bench.scratch)
    for tensor in bench.engine.tensors:
        if tensor.is_input:
            assert context.set_input_shape(tensor.name, (bench.rows, *tensor.shape))
        if tensor.name != "noisy":
            assert context.set_tensor_address(tensor.name, bench.addresses[tensor.name])
    assert context.infer_shapes() == []
    assert not context.execute_async_v3(bench.stream)
    assert "noisy has no address" in bench.said()


def test_a_context_without_a_shape_says_which(bench: Bench) -> None:
    context = bench.context()
    context.set_optimization_profile_async(0, bench.stream)
    names = {tensor.name for tensor in bench.engine.tensors if tensor.is_input}
    assert set(context.infer_shapes()) == names
    context.set_input_shape("mix", (1, 3))
    assert set(context.infer_shapes()) == names - {"mix"}


def test_a_shape_outside_of_the_profile_or_before_it_is_refused(bench: Bench) -> None:
    context = bench.context()
    assert not context.set_input_shape("mix", (2, 3))
    assert "no profile is set" in bench.said()
    assert context.set_optimization_profile_async(1, bench.stream)
    assert not context.set_input_shape("mix", (1, 3))
    assert "mix: (1, 3) is not in the profile, (2, 3)" in bench.said()
    assert not context.set_optimization_profile_async(len(bench.engine.rows), bench.stream)


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (lambda b: setattr(b, "scratch", (b.scratch[0], 10)), "too little scratch memory"),
        (lambda b: b.api.fail.add(NAME), "the kernel failed"),
    ],
    ids=["scratch", "kernel"],
)
def test_a_call_that_cannot_run_is_refused_with_a_reason(
    bench: Bench, spoil: Callable[[Bench], object], why: str
) -> None:
    spoil(bench)
    call = bench.call()
    with pytest.raises(DeviceError, match=f"{NAME} refuses this call: {why}"):
        call.queue()


def test_memory_that_is_too_small_or_given_back_is_refused(bench: Bench) -> None:
    tensor = next(tensor for tensor in bench.engine.tensors if tensor.name == "latents")
    bench.addresses["latents"] = bench.cuda.allocate(bench.rows * tensor.row_bytes - 1)
    with pytest.raises(DeviceError, match="no memory of"):
        bench.call().queue()
    bench.cuda.free(bench.addresses["latents"])
    with pytest.raises(DeviceError, match="no memory of"):
        bench.call().queue()


def test_memory_given_back_under_a_captured_call_is_found_at_its_launch(bench: Bench) -> None:
    call = bench.call()
    bench.cuda.synchronize(bench.stream)
    bench.cuda.begin_capture(bench.stream)
    call.queue()
    graph = bench.cuda.end_capture(bench.stream)
    bench.cuda.free(bench.addresses["mix"])
    bench.cuda.launch(graph, bench.stream)
    with pytest.raises(DeviceError, match="no memory of"):
        bench.cuda.synchronize(bench.stream)


def test_a_captured_context_takes_no_other_address(bench: Bench) -> None:
    call = bench.call()
    bench.cuda.synchronize(bench.stream)
    bench.cuda.begin_capture(bench.stream)
    call.queue()
    bench.cuda.end_capture(bench.stream)
    assert not call._context.set_tensor_address("mix", bench.addresses["mix"])
    assert "captured with another address" in bench.said()


def test_a_package_whose_calls_cannot_be_captured_refuses_them_there_alone(bench: Bench) -> None:
    bench.api.capturable = False
    call = bench.call()
    call.queue()
    bench.cuda.synchronize(bench.stream)
    bench.cuda.begin_capture(bench.stream)
    with pytest.raises(DeviceError, match="cannot be captured"):
        call.queue()


def test_a_plan_that_does_not_load_is_none_with_words(bench: Bench) -> None:
    bench.api.refuse_data = NAME.encode()
    with pytest.raises(BackendError, match=f"plan of {NAME} does not load: CUDA driver version"):
        PlanEngine(bench.api, bench.cuda, bench.data, NAME)


def test_a_wrong_plan_gives_half_of_what_it_should(bench: Bench) -> None:
    made = []
    for wrong in (set(), {NAME}):
        bench.api.wrong = wrong
        for tensor in bench.engine.tensors:
            if tensor.is_input:
                size = bench.rows * math.prod(tensor.shape)
                memory = bench.cuda.memory(bench.addresses[tensor.name], 4 * size)
                memory.view(np.float32)[:] = 1.0
        bench.call().queue()
        bench.cuda.synchronize(bench.stream)
        made.append(bench.cuda.memory(bench.addresses["next"], 4).view(np.float32)[0])
    assert made == [3.0, 1.5]  # latents, prediction and noise, each with the weight 1
