"""Loaded plans: one loader for TensorRT and TensorRT-RTX, whose APIs agree.

    engine = PlanEngine(load_api("tensorrt_rtx"), cuda, data)
    call = engine.call(profile, scratch, {"latents": address, ...}, stream)
    call.queue()

A plan has a profile for each batch (`export/tensorrt_builder.py`). A `PlanCall` is one execution
context: its profile, shapes and addresses are set once, because captured graphs hold them. The
scratch memory of contexts is given to them, so that those which never run at once share it.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from engine.errors import BackendError, DeviceError
from engine.plan_runtime.cuda_runtime import CudaRuntime

ApiName = Literal["tensorrt", "tensorrt_rtx"]
DType = Literal["f32", "f16", "bf16", "i64", "u8"]

ITEM_BYTES: dict[DType, int] = {"f32": 4, "f16": 2, "bf16": 2, "i64": 8, "u8": 1}
NUMPY_TYPES: dict[DType, type[np.generic]] = {  # numpy has no bf16
    "f32": np.float32,
    "f16": np.float16,
    "i64": np.int64,
    "u8": np.uint8,
}
_DTYPES: dict[str, DType] = {
    "FLOAT": "f32",
    "HALF": "f16",
    "BF16": "bf16",
    "INT64": "i64",
    "UINT8": "u8",
}


@dataclass(frozen=True, slots=True)
class PlanTensor:
    """An input or output of a plan.

    Attributes:
        shape: of one row; the tensor is [rows, *shape].
    """

    name: str
    dtype: DType
    shape: tuple[int, ...]
    is_input: bool

    @property
    def row_bytes(self) -> int:
        return math.prod(self.shape) * ITEM_BYTES[self.dtype]


def load_api(name: ApiName) -> Any:
    """The package of that name.

    Raises:
        BackendError: it is not installed, or its libraries cannot be loaded.
    """
    try:
        return importlib.import_module(name)
    except (ImportError, OSError) as error:
        raise BackendError(f"cannot load {name}: {error}") from error


class PlanEngine:
    """A plan on the device.

    Attributes:
        tensors: in the plan's order.
        rows: of each profile, in the plan's order.
    """

    def __init__(self, api: Any, cuda: CudaRuntime, data: bytes | memoryview, name: str) -> None:
        """Loads a plan.

        Args:
            api: from `load_api`.
            data: as the compiler wrote it.
            name: of the plan, for messages.

        Raises:
            BackendError: the runtime refuses it, with its words, or it is not of the kind that the
                builder builds.
        """
        self.name = name
        self._api, self._cuda = api, cuda
        self._log = runtime_log(api)
        self._runtime = api.Runtime(self._log)
        engine = self._runtime.deserialize_cuda_engine(data)
        if engine is None:
            raise BackendError(f"the plan of {name} does not load: {self._words()}")
        self._engine = engine
        self.tensors = tuple(map(self._tensor, range(engine.num_io_tensors)))
        self.rows = tuple(map(self._rows, range(engine.num_optimization_profiles)))

    def scratch_bytes(self, profile: int) -> int:
        """Device memory that a call of this profile needs while it runs."""
        return int(self._engine.get_device_memory_size_for_profile_v2(profile))

    def call(
        self, rows: int, scratch: tuple[int, int], addresses: Mapping[str, int], stream: int
    ) -> PlanCall:
        """A call of so many rows on buffers that stay where they are.

        Args:
            rows: of one of the profiles.
            scratch: address and bytes; shared with calls that never run at the same time.
            addresses: of every tensor.

        Raises:
            BackendError: no such profile, or a tensor has no address.
            DeviceError: the runtime refuses a setting.
        """
        if rows not in self.rows:
            raise BackendError(f"{self.name}: expected rows of {self.rows}, got {rows}")
        names = {tensor.name for tensor in self.tensors}
        if names != set(addresses):
            odd = ", ".join(sorted(names ^ set(addresses)))
            raise BackendError(
                f"{self.name}: expected an address for each tensor, but not so {odd}"
            )
        profile = self.rows.index(rows)
        context = self._context()
        if context is None:
            raise DeviceError(f"no context for {self.name}: {self._words()}")
        self.check(context.set_optimization_profile_async(profile, stream), "profile")
        self._cuda.synchronize(stream)
        context.set_device_memory(*scratch)
        for tensor in self.tensors:
            if tensor.is_input:
                shape = (rows, *tensor.shape)
                self.check(context.set_input_shape(tensor.name, shape), f"shape of {tensor.name}")
            taken = context.set_tensor_address(tensor.name, addresses[tensor.name])
            self.check(taken, f"address of {tensor.name}")
        if missing := context.infer_shapes():
            raise DeviceError(f"{self.name}: these tensors lack a shape: {', '.join(missing)}")
        return PlanCall(self, context, stream)

    def _context(self) -> Any:
        strategy = self._api.ExecutionContextAllocationStrategy.USER_MANAGED
        specialization = getattr(self._api, "DynamicShapesKernelSpecializationStrategy", None)
        if specialization is None:
            return self._engine.create_execution_context(strategy)
        # TensorRT-RTX makes its kernels here. Not later, in the background: a graph keeps those
        # that it was captured with.
        config = self._engine.create_runtime_config()
        config.set_execution_context_allocation_strategy(strategy)
        config.dynamic_shapes_kernel_specialization_strategy = specialization.EAGER
        return self._engine.create_execution_context(config)

    def _tensor(self, index: int) -> PlanTensor:
        engine = self._engine
        name = engine.get_tensor_name(index)
        dtype = engine.get_tensor_dtype(name).name
        shape = tuple(engine.get_tensor_shape(name))
        if dtype not in _DTYPES or shape[:1] != (-1,) or min(shape[1:], default=1) < 1:
            raise BackendError(
                f"{self.name}: expected tensors of {', '.join(_DTYPES)} whose first axis alone is "
                f"open, got {name} as {dtype} {shape}"
            )
        is_input = engine.get_tensor_mode(name) == self._api.TensorIOMode.INPUT
        return PlanTensor(name, _DTYPES[dtype], shape[1:], is_input)

    def _rows(self, profile: int) -> int:
        first = next(tensor for tensor in self.tensors if tensor.is_input)
        lowest, _, highest = self._engine.get_tensor_profile_shape(first.name, profile)
        if tuple(lowest) != tuple(highest):
            raise BackendError(
                f"{self.name}: expected a profile of one shape, got {tuple(lowest)} to "
                f"{tuple(highest)}"
            )
        return int(lowest[0])

    def check(self, taken: bool, what: str) -> None:
        """Raises DeviceError, with the runtime's words, unless it has taken what it was given."""
        if not taken:
            raise DeviceError(f"{self.name} refuses this {what}: {self._words()}")

    def _words(self) -> str:
        words = " ".join(self._log.lines) or "the runtime gave no reason"
        self._log.lines.clear()
        return words


class PlanCall:
    """One plan, ready to run on its buffers."""

    def __init__(self, engine: PlanEngine, context: Any, stream: int) -> None:
        self._engine = engine
        self._context = context
        self._stream = stream

    def queue(self) -> None:
        """Queues the call in its stream; in a capture, notes it down.

        Raises:
            DeviceError: the runtime refuses it.
        """
        self._engine.check(self._context.execute_async_v3(self._stream), "call")


def runtime_log(api: Any) -> Any:
    """A logger that keeps what it is told, from warnings on, as `lines`."""
    severities = api.ILogger
    kept = (severities.INTERNAL_ERROR, severities.ERROR, severities.WARNING)

    class RuntimeLog(api.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.lines: list[str] = []

        def log(self, severity: Any, message: str) -> None:
            if severity in kept:
                self.lines.append(message)

    return RuntimeLog()
