"""The best backend that works is chosen, and the others are explained."""

from __future__ import annotations

import logging
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from engine.backends import select
from engine.backends.availability import Availability, Ready
from engine.backends.base import Backend
from engine.backends.select import (
    Candidate,
    OpenRequest,
    choose_backend,
    describe_backends,
    open_backend,
)
from engine.errors import BackendError, ConfigError
from engine.plans.cache import PlanCache
from tests.fakes import FakeBackend
from tests.tiny_models import make_tiny_model


def test_auto_takes_openvino_on_a_cpu(tiny_onnx_model: Path) -> None:
    found = describe_backends(tiny_onnx_model)
    usable = [name for name, item in found.items() if isinstance(item, Ready)]
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
    with pytest.raises(BackendError, match=r"tensorrt.*To do: .*(GPU|pip install)"):
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


class Fails:
    """A trial that the named backends do not pass."""

    def __init__(self, *names: str) -> None:
        self.names = names
        self.tried: list[str] = []

    def __call__(self, backend: Backend) -> None:
        self.tried.append(backend.name.split("-")[0])
        if self.tried[-1] in self.names:
            raise RuntimeError("the first hop is refused")


def test_a_backend_that_fails_its_trial_gives_way_to_the_next_with_a_warning(
    tiny_onnx_model: Path, caplog: pytest.LogCaptureFixture
) -> None:
    trial = Fails("openvino")
    with caplog.at_level(logging.WARNING):
        chosen = choose_backend(OpenRequest(tiny_onnx_model), trial=trial)
    assert trial.tried == ["openvino", "onnxruntime"]
    assert chosen.backend.name == "onnxruntime-f32" and chosen.choice.name == "onnxruntime"
    (broken,) = [item for item in chosen.choice.passed if item.broken]
    assert (broken.name, broken.reason) == ("openvino", "failed")
    assert broken.detail == "RuntimeError: the first hop is refused"
    assert chosen.choice.why == f"openvino does not work: {broken.detail}"
    (record,) = caplog.records
    assert "openvino passed over" in record.message and broken.detail in record.message


def test_a_backend_whose_module_cannot_be_imported_gives_way(
    tiny_onnx_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    monkeypatch.delitem(sys.modules, "engine.backends.openvino_backend", raising=False)
    monkeypatch.delattr("engine.backends.openvino_backend", raising=False)
    monkeypatch.delitem(sys.modules, "engine.backends.openvino_plans", raising=False)
    monkeypatch.setattr(select, "_version", lambda distribution: "1.0")
    chosen = choose_backend(OpenRequest(tiny_onnx_model))
    assert chosen.choice.name == "onnxruntime"
    assert "import of openvino halted" in chosen.choice.why


def test_a_library_that_breaks_while_it_is_looked_for_gives_way(
    tiny_onnx_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken_driver(folder: Path) -> Availability:
        raise RuntimeError("CUDA driver version is insufficient")

    first = Candidate("torch-cuda", broken_driver, lambda request: FakeBackend())
    monkeypatch.setattr(select, "CANDIDATES", (first, *select.CANDIDATES[3:]))
    chosen = choose_backend(OpenRequest(tiny_onnx_model))
    assert chosen.choice.name == "openvino"
    assert [item.reason for item in chosen.choice.passed] == ["driver"]
    assert "driver version is insufficient" in chosen.choice.why


def test_a_backend_that_is_to_be_avoided_is_not_opened(tiny_onnx_model: Path) -> None:
    trial = Fails()
    why = "the engine was lost"
    chosen = choose_backend(OpenRequest(tiny_onnx_model), avoid={"openvino": why}, trial=trial)
    assert trial.tried == ["onnxruntime"]
    assert chosen.choice.why == f"openvino does not work: {why}"


def test_a_backend_that_was_named_has_no_substitute(tiny_onnx_model: Path) -> None:
    with pytest.raises(BackendError, match=r"backend openvino: RuntimeError: the first hop"):
        choose_backend(OpenRequest(tiny_onnx_model), "openvino", trial=Fails("openvino"))
    named = choose_backend(OpenRequest(tiny_onnx_model), "onnxruntime")
    assert named.choice.why == "it was asked for"


def test_where_better_ones_are_merely_absent_the_reason_names_them(tiny_onnx_model: Path) -> None:
    chosen = choose_backend(OpenRequest(tiny_onnx_model))
    assert not any(item.broken for item in chosen.choice.passed)
    assert chosen.choice.why.endswith("(no tensorrt, no tensorrt-rtx, no torch-cuda)")


def test_a_plan_that_takes_too_long_to_build_is_not_waited_for(
    tiny_onnx_model: Path, tmp_path: Path
) -> None:
    request = OpenRequest(tiny_onnx_model, plans=PlanCache(tmp_path))
    chosen = choose_backend(request, longest_build_s=0.0)
    assert chosen.choice.name == "onnxruntime" and chosen.awaited == "openvino"
    (building,) = [item for item in chosen.choice.passed if item.reason == "building"]
    assert building.name == "openvino" and not building.broken
    assert "there is no plan of codec_encoder" in building.detail
    assert chosen.choice.why == "the plan for openvino is being built, which takes over then"
    named = choose_backend(request, "openvino", longest_build_s=0.0)
    assert (named.choice.name, named.awaited) == ("onnxruntime", "openvino")
    waited = choose_backend(request, longest_build_s=60.0)
    assert waited.choice.name == "openvino" and waited.awaited is None
    kept = choose_backend(request, longest_build_s=0.0)
    assert kept.choice.name == "openvino" and kept.awaited is None


def test_where_nothing_else_runs_the_plan_is_waited_for(
    tiny_onnx_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    only = [item for item in select.CANDIDATES if item.name == "openvino"]
    monkeypatch.setattr(select, "CANDIDATES", tuple(only))
    request = OpenRequest(tiny_onnx_model, plans=PlanCache(tmp_path))
    chosen = choose_backend(request, longest_build_s=0.0)
    assert chosen.choice.name == "openvino" and chosen.awaited is None
