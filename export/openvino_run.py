"""Runs a graph in OpenVINO on torch's tensors, bf16 among them, which numpy has not."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov
import torch
from torch import Tensor

from engine.errors import BackendError

_TYPES = {
    torch.float32: ov.Type.f32,
    torch.float16: ov.Type.f16,
    torch.bfloat16: ov.Type.bf16,
    torch.int64: ov.Type.i64,
    torch.uint8: ov.Type.u8,
}


def openvino_runtime(hint: str) -> str:
    """Name and version for a record."""
    return f"openvino {ov.get_version()}, CPU, {hint}"


class OpenVinoGraph:
    """An ONNX file or an IR, compiled at its first run, on one thread."""

    def __init__(self, path: Path, hint: str) -> None:
        """
        Args:
            hint: the precision that OpenVINO computes in: "f32" or "bf16".
        """
        self._path = path
        self._settings = {
            "INFERENCE_PRECISION_HINT": hint,
            "INFERENCE_NUM_THREADS": 1,
            "PERFORMANCE_HINT": "LATENCY",
        }
        self._compiled: ov.CompiledModel | None = None

    def run(self, inputs: Sequence[Tensor]) -> list[Tensor]:
        """The outputs, in the graph's own dtypes.

        Raises:
            BackendError: OpenVINO refuses the graph, or cannot run it at these shapes.
        """
        try:
            if self._compiled is None:
                self._compiled = ov.Core().compile_model(self._path, "CPU", self._settings)
            request = self._compiled.create_infer_request()
            for index, value in enumerate(inputs):
                request.set_input_tensor(index, _to_openvino(value))
            request.infer()
        except RuntimeError as error:
            raise BackendError(f"openvino refused {self._path}: {error}") from error
        return [_to_torch(tensor) for tensor in request.output_tensors]


def _to_openvino(value: Tensor) -> ov.Tensor:
    tensor = ov.Tensor(_TYPES[value.dtype], ov.Shape(list(value.shape)))
    if value.dtype == torch.bfloat16:
        # OpenVINO shows bf16 to numpy as some other type of 16 bits.
        tensor.data.view(np.int16)[...] = value.view(torch.int16).numpy()
    else:
        tensor.data[...] = value.numpy()
    return tensor


def _to_torch(tensor: Any) -> Tensor:
    data = np.array(tensor.data)
    if tensor.element_type == ov.Type.bf16:
        return torch.from_numpy(data.view(np.int16)).view(torch.bfloat16)
    return torch.from_numpy(data)
