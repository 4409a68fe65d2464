"""The best backend that works is chosen, and the others are explained."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from engine.backends import select
from engine.backends.select import describe_backends, open_backend
from engine.errors import BackendError, ConfigError
from tests.tiny_models import make_tiny_model


def test_auto_takes_openvino_on_a_cpu(tiny_onnx_model: Path) -> None:
    usable = [item.name for item in describe_backends(tiny_onnx_model) if item.usable]
    assert usable == ["openvino", "onnxruntime", "torch-cpu"]
    assert open_backend(tiny_onnx_model).name.startswith("openvino")


@pytest.mark.parametrize("name", ["openvino", "onnxruntime", "torch"])
def test_a_backend_can_be_named(tiny_onnx_model: Path, name: str) -> None:
    assert open_backend(tiny_onnx_model, name, "f32").name.startswith(name)


def test_a_broken_graph_falls_back_to_what_still_works(
    tiny_onnx_model: Path, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(tiny_onnx_model, tmp_path / "model"))
    (folder / "unet.onnx").write_bytes(b"broken")
    assert open_backend(folder).name.startswith("torch")


def test_without_graphs_torch_is_the_last_resort(tmp_path: Path) -> None:
    make_tiny_model(tmp_path)
    assert open_backend(tmp_path).name.startswith("torch")
    with pytest.raises(BackendError, match=r"export\.to_onnx"):
        open_backend(tmp_path, "openvino")


def test_an_absent_library_is_named_with_its_remedy(
    tiny_onnx_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(select, "_version", lambda distribution: None)
    with pytest.raises(BackendError, match=r"openvino is not installed.*pip install openvino"):
        open_backend(tiny_onnx_model, "openvino")
    with pytest.raises(BackendError, match=r"no backend can run .*onnxruntime is not installed"):
        open_backend(tiny_onnx_model)


def test_tensorrt_says_what_to_use_instead(tiny_onnx_model: Path) -> None:
    with pytest.raises(BackendError, match=r"TensorRT.*torch with CUDA"):
        open_backend(tiny_onnx_model, "tensorrt")


def test_unknown_names_and_precisions_are_refused(tiny_onnx_model: Path) -> None:
    with pytest.raises(BackendError, match=r"expected a backend of .*'cuda'"):
        open_backend(tiny_onnx_model, "cuda")
    with pytest.raises(BackendError, match=r"expected a precision of .*'int4'"):
        open_backend(tiny_onnx_model, "auto", "int4")


def test_a_folder_that_is_no_model_is_a_config_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"model\.json"):
        open_backend(tmp_path)


def test_choosing_openvino_imports_no_torch(tiny_onnx_model: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from engine.backends.select import open_backend\n"
        "assert not {'torch', 'openvino', 'onnxruntime'} & set(sys.modules)\n"
        f"open_backend(Path({str(tiny_onnx_model)!r}))\n"
        "assert 'openvino' in sys.modules and 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
