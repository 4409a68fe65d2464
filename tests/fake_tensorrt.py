"""TensorRT's runtime API over a `FakeCuda`: plans are ONNX graphs, onnxruntime runs them.

Those of bf16 OpenVINO runs, in f32: onnxruntime has no kernels for them.

api = FakeTensorRt(cuda)
data = api.plan_of(graph)        # what a compiler would have written

A call reads and writes the buffers that were bound, at the types and shapes of the graph, and
spoils its scratch memory. It is refused with an unbound tensor, without a shape, or without
scratch; an address is refused after the context was captured.
"""

from __future__ import annotations

import enum
import functools
import json
import math
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnxruntime
import torch

from export.networks import TORCH_DTYPES
from export.openvino_run import OpenVinoGraph
from export.tensorrt_builder import Graph
from tests.fake_cuda import FakeCuda, Operation

Array = np.ndarray[Any, Any]

SCRATCH_BYTES = 4096  # and a multiple for each further row, so that profiles differ
_NUMPY = {
    "f32": np.float32,
    "f16": np.float16,
    "bf16": np.int16,  # its bits: numpy lacks it
    "i64": np.int64,
    "u8": np.uint8,
}
_NAMES = {"f32": "FLOAT", "f16": "HALF", "bf16": "BF16", "i64": "INT64", "u8": "UINT8"}


class TensorIOMode(enum.Enum):
    """Direction of a tensor."""

    INPUT = 1
    OUTPUT = 2


class Logger:
    """What runtimes report to."""

    INTERNAL_ERROR, ERROR, WARNING, INFO = range(4)

    def log(self, severity: int, message: str) -> None:
        raise NotImplementedError


class FakeTensorRt:
    """The package, as `PlanEngine` uses it.

    Attributes:
        refuse_data: plans that contain these bytes do not load.
        fail: names of plans whose calls fail.
        wrong: names of plans that give half of what they should.
        bound: (plan, tensor) of every address that was set.
        capturable: whether calls may be captured.
    """

    ILogger = Logger
    TensorIOMode = TensorIOMode
    ExecutionContextAllocationStrategy = SimpleNamespace(USER_MANAGED="user managed")

    def __init__(self, cuda: FakeCuda) -> None:
        self.cuda = cuda
        self.refuse_data: bytes | None = None
        self.fail: set[str] = set()
        self.wrong: set[str] = set()
        self.bound: list[tuple[str, str]] = []
        self.capturable = True

    def plan_of(self, graph: Graph) -> bytes:
        """A plan of a graph, with the profiles of its batches."""
        return json.dumps(
            {
                "name": graph.name,
                "path": str(graph.path),
                "inputs": [asdict(tensor) for tensor in graph.inputs],
                "outputs": [asdict(tensor) for tensor in graph.outputs],
                "rows": [graph.rows(batch) for batch in graph.batches],
            }
        ).encode()

    def Runtime(self, log: Logger) -> FakeRuntime:  # noqa: N802 - as the package has it
        return FakeRuntime(self, log)


class FakeRuntime:
    """Loads plans."""

    def __init__(self, api: FakeTensorRt, log: Logger) -> None:
        self._api, self._log = api, log

    def deserialize_cuda_engine(self, data: Any) -> FakeEngine | None:
        text = bytes(data)
        if self._api.refuse_data is not None and self._api.refuse_data in text:
            self._log.log(Logger.ERROR, "CUDA driver version is insufficient")
            return None
        return FakeEngine(self._api, self._log, json.loads(text))


@functools.cache
def _session(path: str) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(path, options, ["CPUExecutionProvider"])


@functools.cache
def _openvino(path: str) -> OpenVinoGraph:
    return OpenVinoGraph(Path(path), "f32")


def _run_graph(plan: dict[str, Any], inputs: dict[str, Array]) -> list[Array]:
    """The outputs of a plan's graph; of bf16 the bits."""
    tensors = [*plan["inputs"], *plan["outputs"]]
    if all(tensor["dtype"] != "bf16" for tensor in tensors):
        names = [tensor["name"] for tensor in plan["outputs"]]
        outputs: list[Array] = _session(plan["path"]).run(names, inputs)
        return outputs
    given = [
        torch.from_numpy(inputs[tensor["name"]]).view(TORCH_DTYPES[tensor["dtype"]])
        for tensor in plan["inputs"]
    ]
    return [
        (value.view(torch.int16) if value.dtype == torch.bfloat16 else value).numpy()
        for value in _openvino(plan["path"]).run(given)
    ]


class FakeEngine:
    """A loaded plan."""

    def __init__(self, api: FakeTensorRt, log: Logger, plan: dict[str, Any]) -> None:
        self.api, self.log, self.plan = api, log, plan
        self.rows: list[int] = plan["rows"]
        self._tensors = [*plan["inputs"], *plan["outputs"]]
        self.num_io_tensors = len(self._tensors)
        self.num_optimization_profiles = len(self.rows)

    def get_tensor_name(self, index: int) -> str:
        name: str = self._tensors[index]["name"]
        return name

    def get_tensor_dtype(self, name: str) -> Any:
        return SimpleNamespace(name=_NAMES[self.tensor(name)["dtype"]])

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return (-1, *self.tensor(name)["shape"][1:])

    def get_tensor_mode(self, name: str) -> TensorIOMode:
        inputs = [tensor["name"] for tensor in self.plan["inputs"]]
        return TensorIOMode.INPUT if name in inputs else TensorIOMode.OUTPUT

    def get_tensor_profile_shape(self, name: str, profile: int) -> list[tuple[int, ...]]:
        return [(self.rows[profile], *self.tensor(name)["shape"][1:])] * 3

    def get_device_memory_size_for_profile_v2(self, profile: int) -> int:
        return SCRATCH_BYTES * self.rows[profile]

    def create_execution_context(self, strategy: str) -> FakeContext:
        assert strategy == "user managed"
        return FakeContext(self)

    def tensor(self, name: str) -> dict[str, Any]:
        return next(tensor for tensor in self._tensors if tensor["name"] == name)


class FakeContext:
    """One execution context."""

    def __init__(self, engine: FakeEngine) -> None:
        self._engine = engine
        self._profile: int | None = None
        self._scratch = (0, 0)
        self._shapes: dict[str, tuple[int, ...]] = {}
        self._addresses: dict[str, int] = {}
        self._is_captured = False

    def set_optimization_profile_async(self, profile: int, stream: int) -> bool:
        self._profile = profile
        return profile < len(self._engine.rows)

    def set_device_memory(self, address: int, size: int) -> None:
        self._scratch = (address, size)

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        if self._profile is None:
            return self._refuse("no profile is set")
        (wanted, _, _) = self._engine.get_tensor_profile_shape(name, self._profile)
        if tuple(shape) != tuple(wanted):
            return self._refuse(f"{name}: {shape} is not in the profile, {wanted}")
        self._shapes[name] = shape
        return True

    def set_tensor_address(self, name: str, address: int) -> bool:
        if self._is_captured:
            return self._refuse(f"{name}: the context was captured with another address")
        self._engine.tensor(name)
        self._engine.api.bound.append((self._engine.plan["name"], name))
        self._addresses[name] = address
        return True

    def infer_shapes(self) -> list[str]:
        inputs = [tensor["name"] for tensor in self._engine.plan["inputs"]]
        return [name for name in inputs if name not in self._shapes]

    def execute_async_v3(self, stream: int) -> bool:
        engine, cuda = self._engine, self._engine.api.cuda
        if engine.plan["name"] in engine.api.fail:
            return self._refuse("the kernel failed")
        assert self._profile is not None
        if self._scratch[1] < engine.get_device_memory_size_for_profile_v2(self._profile):
            return self._refuse("too little scratch memory")
        if cuda.capturing:
            if not engine.api.capturable:
                return self._refuse("the call cannot be captured")
            self._is_captured = True
        try:
            for tensor in (*engine.plan["inputs"], *engine.plan["outputs"]):
                self._memory(tensor)
            cuda.memory(*self._scratch)
        except KeyError as error:
            return self._refuse(f"{error.args[0]} has no address")
        cuda.queue(Operation(self._run), stream)
        return True

    def _memory(self, tensor: dict[str, Any]) -> Array:
        """The tensor where it is bound; memory that was not given out is refused."""
        assert self._profile is not None
        shape = (self._engine.rows[self._profile], *tensor["shape"][1:])
        kind = np.dtype(_NUMPY[tensor["dtype"]])
        address = self._addresses[tensor["name"]]
        raw = self._engine.api.cuda.memory(address, math.prod(shape) * kind.itemsize)
        return raw.view(kind).reshape(shape)

    def _run(self) -> None:
        plan = self._engine.plan
        inputs = {tensor["name"]: self._memory(tensor).copy() for tensor in plan["inputs"]}
        self._engine.api.cuda.memory(*self._scratch)[:] = 0x5C
        made = _run_graph(plan, inputs)
        for tensor, value in zip(plan["outputs"], made, strict=True):
            target = self._memory(tensor)
            if target.shape != value.shape or target.dtype != value.dtype:
                raise AssertionError(f"{tensor['name']}: {value.shape} {value.dtype}")
            target[:] = value * 0.5 if plan["name"] in self._engine.api.wrong else value

    def _refuse(self, why: str) -> bool:
        self._engine.log.log(Logger.ERROR, why)
        return False
