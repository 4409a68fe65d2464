"""OpenVINO starts from kept graphs, and gives what it gives without them."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from engine.backends.base import Backend, GeneratedHop, HopInput
from engine.backends.openvino_backend import OpenVinoRunner, open_model
from engine.plans.cache import PlanCache

GRAPHS = ["audio_encoder", "codec_decoder", "codec_encoder", "codec_encoder", "unet"]
LATENTS = {"latents": (4, 4, 4, 4)}


def first_hop(backend: Backend) -> GeneratedHop:
    noise = np.random.default_rng(1)
    session = backend.new_session(hop_frames=4, seed=0)
    mel = noise.standard_normal((4, 80, 32), np.float32)
    masked, whole = (noise.standard_normal((4, 4, 4, 4), np.float32) for _ in range(2))
    return backend.run_hop([HopInput(session, mel, masked, whole)])[0]


def kept(plans: PlanCache) -> dict[str, int]:
    """Graph and digest -> when the plan's folder was made."""
    return {
        f"{info.key['component']} {info.digest}": (plans.folder / info.digest).stat().st_ino
        for info in plans.plans()
    }


def test_kept_graphs_are_loaded_and_give_the_same_bits(
    tiny_onnx_model: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    plans = PlanCache(tmp_path)
    want = first_hop(open_model(tiny_onnx_model, "f32", plans=None))
    built = first_hop(open_model(tiny_onnx_model, "f32", plans=plans))
    before = kept(plans)
    assert sorted(name.split()[0] for name in before) == GRAPHS
    loaded = first_hop(open_model(tiny_onnx_model, "f32", plans=plans))
    assert kept(plans) == before and caplog.text == ""
    np.testing.assert_array_equal(built.crops, want.crops)
    np.testing.assert_array_equal(loaded.crops, want.crops)


def start_decoder(folder: Path, plans: PlanCache, precision: str = "f32") -> OpenVinoRunner:
    runner = OpenVinoRunner(folder, precision, plans=plans)
    runner.compile("codec_decoder", LATENTS)
    return runner


def test_other_weights_and_another_precision_are_other_plans(
    tiny_onnx_model: Path, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(tiny_onnx_model, tmp_path / "model"))
    plans = PlanCache(tmp_path / "plans")
    start_decoder(folder, plans)
    start_decoder(folder, plans)
    assert len(plans.plans()) == 1
    weights = bytearray((folder / "codec.safetensors").read_bytes())
    weights[-1] ^= 1
    (folder / "codec.safetensors").write_bytes(weights)
    start_decoder(folder, plans)
    assert len(plans.plans()) == 2
    start_decoder(folder, plans, "bf16")
    assert len(plans.plans()) == 3


def test_a_full_disk_does_not_stop_the_backend(
    tiny_onnx_model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    runner = start_decoder(tiny_onnx_model, PlanCache(tmp_path))
    assert "is full" in caplog.text
    (image,) = runner.run("codec_decoder", {"latents": np.zeros((4, 4, 4, 4), np.float32)})
    assert image.shape == (4, 3, 32, 32)
