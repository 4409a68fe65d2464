"""Whatever a TensorRT plan depends on makes the plan cache build another one."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from engine.backends import tensorrt_plans
from engine.backends.tensorrt_plans import ServedPlans
from engine.plans.cache import PlanCache
from tests.fake_plans import FakeGpu, Machine

PLAN = "codec_decoder"  # one with weights, and quick to check


@pytest.fixture
def sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the sources that write the graphs and set the compiler's flags."""
    copies = []
    for root in tensorrt_plans.source_roots():
        copy = tmp_path / "sources" / root.name
        copy.parent.mkdir(exist_ok=True)
        (shutil.copytree if root.is_dir() else shutil.copy)(root, copy)
        copies.append(copy)
    monkeypatch.setattr(tensorrt_plans, "source_roots", lambda: copies)
    return tmp_path / "sources"


class Start:
    """One start of a server: what it serves, on which device, with which libraries."""

    def __init__(
        self,
        tiny_gpu: FakeGpu,
        folder: Path,
        sources: Path,
        patch: pytest.MonkeyPatch,
        api_name: Any = "tensorrt",
    ) -> None:
        self._patch = patch
        self.sources = sources
        self.cache = PlanCache(folder / "plans")
        self.machine = Machine(tiny_gpu, self.cache)
        model = folder / "model"
        if not model.exists():
            shutil.copytree(tiny_gpu.served.model_dir, model)
        self.served = dataclasses.replace(tiny_gpu.served, api_name=api_name, model_dir=model)

    def serve(self, **changed: Any) -> None:
        self.served = dataclasses.replace(self.served, **changed)

    def run(self, **changed: Any) -> None:
        self.serve(spec=dataclasses.replace(self.served.spec, **changed))

    def device(self, **changed: Any) -> None:
        cuda = self.machine.gpu.cuda
        cuda.device = dataclasses.replace(cuda.device, **changed)

    def library(self, package: str, version: str) -> None:
        installed = importlib.metadata.version

        def found(name: str) -> str:
            return version if name == package else installed(name)

        self._patch.setattr(importlib.metadata, "version", found)

    def edit(self, name: str) -> None:
        path = self.sources / name
        path.write_text(path.read_text(encoding="utf-8") + "\n", encoding="utf-8")

    def open(self) -> list[str]:
        """The plans that had to be built."""
        self.machine.plans.open(self.served)
        return self.machine.built


CHANGES: dict[str, Callable[[Start], object]] = {
    "GPU": lambda start: start.device(name="another GPU"),
    "compute capability": lambda start: start.device(capability=(9, 0)),
    "device memory": lambda start: start.device(memory_bytes=80 << 30),
    "driver": lambda start: start.device(driver=12080),
    "CUDA": lambda start: start.device(runtime=12090),
    "TensorRT": lambda start: start.library("tensorrt", "11.4.0"),
    "torch, which writes the graph": lambda start: start.library("torch", "2.14.0"),
    "onnx, which writes the graph": lambda start: start.library("onnx", "2.0"),
    "other package": lambda start: start.serve(api_name="tensorrt_rtx"),
    "precision": lambda start: start.serve(precision="f16"),
    "profiles": lambda start: start.serve(buckets=(1, 2, 8)),
    "fewer profiles up to the same": lambda start: start.serve(buckets=(4,)),
    "hop": lambda start: start.serve(hop_frames=2),
    "steps": lambda start: start.run(timesteps=(999, 499)),
    "window mode": lambda start: start.run(carry="carry"),
    "window": lambda start: start.run(window_frames=12),
    "weights": lambda start: flip_last_byte(start.served.model_dir / "codec.safetensors"),
    "graph": lambda start: start.edit("models/unet.py"),
    "graph between networks": lambda start: start.edit("export/hop_graphs.py"),
    "builder flags": lambda start: start.edit("export/tensorrt_builder.py"),
}


def flip_last_byte(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("what", CHANGES)
def test_a_change_builds_another_plan_and_the_old_one_is_still_there(
    tiny_gpu: FakeGpu, tmp_path: Path, sources: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    monkeypatch.setattr(tensorrt_plans, "plans_of", lambda spec, hop: (PLAN,))
    start = Start(tiny_gpu, tmp_path, sources, monkeypatch)
    assert start.open() == [PLAN]
    assert Start(tiny_gpu, tmp_path, sources, monkeypatch).open() == []
    with monkeypatch.context() as patch:
        changed = Start(tiny_gpu, tmp_path, sources, patch)
        CHANGES[what](changed)
        assert changed.open() == [PLAN]
    assert len(start.cache.plans()) == 2


@pytest.mark.parametrize(
    "change",
    [
        lambda start: start.device(name="another GPU", capability=(12, 0), memory_bytes=1 << 33),
        lambda start: start.device(driver=13020),
        lambda start: start.run(name="renamed", licence="MIT"),
        lambda start: start.serve(model_dir=start.served.model_dir.rename(start.sources / "moved")),
    ],
    ids=["another GPU", "newer driver", "another name", "another folder"],
)
def test_plans_of_tensorrt_rtx_serve_all_gpus_and_models_may_move(
    tiny_gpu: FakeGpu,
    tmp_path: Path,
    sources: Path,
    monkeypatch: pytest.MonkeyPatch,
    change: Callable[[Start], object],
) -> None:
    monkeypatch.setattr(tensorrt_plans, "plans_of", lambda spec, hop: (PLAN,))
    assert Start(tiny_gpu, tmp_path, sources, monkeypatch, "tensorrt_rtx").open() == [PLAN]
    again = Start(tiny_gpu, tmp_path, sources, monkeypatch, "tensorrt_rtx")
    change(again)
    assert again.open() == []


def test_another_decoder_beside_the_codec_builds_that_plan_alone(
    tiny_gpu: FakeGpu, tmp_path: Path
) -> None:
    model = tmp_path / "model"
    shutil.copytree(tiny_gpu.served.model_dir, model)
    tiny = model / "tiny_decoder.safetensors"
    shutil.copy(model / "codec.safetensors", tiny)
    codec = dataclasses.replace(tiny_gpu.spec.codec, kind="kl", decoder="taesd", downscale=8)
    served: ServedPlans = dataclasses.replace(
        tiny_gpu.served, model_dir=model, spec=dataclasses.replace(tiny_gpu.spec, codec=codec)
    )
    names = ("codec_encoder", "codec_decoder")
    before = {name: Machine(tiny_gpu, None).plans.key(served, name).digest() for name in names}
    flip_last_byte(tiny)
    after = {name: Machine(tiny_gpu, None).plans.key(served, name).digest() for name in names}
    assert before["codec_encoder"] == after["codec_encoder"]
    assert before["codec_decoder"] != after["codec_decoder"]
