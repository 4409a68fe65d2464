"""Graphs that read their weights from a .safetensors file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from safetensors.numpy import save_file

from engine.errors import ModelError
from engine.media import F32
from export.shared_weights import point_into, stored_tensors


def scale_graph(weight: F32) -> onnx.ModelProto:
    """y = x * weight."""
    shape = list(weight.shape)
    graph = helper.make_graph(
        [helper.make_node("Mul", ["x", "net.scale"], ["y"])],
        "scale",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, shape)],
        [numpy_helper.from_array(weight, "net.scale")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_a_stored_weight_is_read_from_the_safetensors(
    tmp_path: Path, dtype: type[np.floating[Any]]
) -> None:
    weight = np.arange(6, dtype=np.float32).reshape(2, 3)
    stored: dict[str, NDArray[Any]] = {
        "other": np.ones(5, dtype),
        "scale": (weight + 0.5).astype(dtype),
    }
    save_file(stored, tmp_path / "w.safetensors")
    model = scale_graph(weight)
    shared = point_into(model, tmp_path / "w.safetensors", "net.")
    assert shared == stored["scale"].nbytes
    (tmp_path / "g.onnx").write_bytes(model.SerializeToString())
    session = onnxruntime.InferenceSession(
        str(tmp_path / "g.onnx"), providers=["CPUExecutionProvider"]
    )
    (y,) = session.run(None, {"x": np.full((2, 3), 2.0, np.float32)})
    np.testing.assert_array_equal(y, 2.0 * (weight + 0.5))


def test_a_weight_of_another_shape_is_refused(tmp_path: Path) -> None:
    save_file({"scale": np.ones((3, 2), np.float16)}, tmp_path / "w.safetensors")
    with pytest.raises(ModelError, match=r"expected net.scale .* \(2, 3\), found F16 \(3, 2\)"):
        point_into(scale_graph(np.ones((2, 3), np.float32)), tmp_path / "w.safetensors", "net.")


def test_a_large_copy_inside_the_graph_is_refused(tmp_path: Path) -> None:
    save_file({"other": np.ones(1, np.float16)}, tmp_path / "w.safetensors")
    with pytest.raises(ModelError, match="the exporter folded a weight"):
        point_into(scale_graph(np.ones((200, 200), np.float32)), tmp_path / "w.safetensors")


@pytest.mark.parametrize("content", [b"", b"\xff" * 32, (5).to_bytes(8, "little") + b"hello"])
def test_a_corrupt_file_is_an_error_that_names_it(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "w.safetensors"
    path.write_bytes(content)
    with pytest.raises(ModelError, match=r"w\.safetensors"):
        stored_tensors(path)
