"""Wrong use and broken folders end in a sentence, not in a crash."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from engine.backends import onnxruntime_backend, openvino_backend
from engine.backends.base import Backend, HopInput
from engine.backends.torch_backend import open_model
from engine.errors import AudioFormatError, BackendError, StreamError, VideoFormatError
from engine.spec import ModelSpec
from tests.tiny_models import TINY_SPEC, make_tiny_model

MEL = np.zeros((4, 80, 32), np.float32)
WHOLE = np.zeros((4, 4, 4, 4), np.float32)


@pytest.fixture(scope="module", params=["torch", "onnxruntime"])
def backend(request: pytest.FixtureRequest, tiny_onnx_model: Path) -> Backend:
    if request.param == "torch":
        return open_model(tiny_onnx_model)
    return onnxruntime_backend.open_model(tiny_onnx_model)


def copy_of(folder: Path, target: Path) -> Path:
    return Path(shutil.copytree(folder, target / "model"))


def test_misshapen_inputs_say_what_was_expected(backend: Backend) -> None:
    session = backend.new_session(hop_frames=4, seed=0)
    with pytest.raises(AudioFormatError, match=r"\(4, 80, 32\), got \(3, 80, 32\)"):
        backend.run_hop([HopInput(session, MEL[:3], WHOLE, WHOLE)])
    with pytest.raises(VideoFormatError, match=r"\(4, 4, 4, 4\), got \(4, 4, 4, 3\)"):
        backend.run_hop([HopInput(session, MEL, WHOLE[..., :3], WHOLE)])
    with pytest.raises(VideoFormatError, match=r"uint8 \[n, 32, 32, 3\]"):
        backend.encode(np.zeros((1, 16, 16, 3), np.uint8), masked=True)
    with pytest.raises(VideoFormatError, match="reference latents"):
        backend.run_hop([HopInput(session, MEL, WHOLE, WHOLE[:3])])
    with pytest.raises(StreamError, match="hop of 1 to 16"):
        backend.new_session(hop_frames=0, seed=0)


def test_batches_share_one_hop_and_hold_a_session_once(backend: Backend) -> None:
    four = backend.new_session(hop_frames=4, seed=0)
    two = backend.new_session(hop_frames=2, seed=0)
    with pytest.raises(StreamError, match="one hop length"):
        backend.run_hop(
            [HopInput(four, MEL, WHOLE, WHOLE), HopInput(two, MEL[:2], WHOLE[:2], WHOLE[:2])]
        )
    with pytest.raises(StreamError, match="every session once"):
        backend.run_hop([HopInput(four, MEL, WHOLE, WHOLE), HopInput(four, MEL, WHOLE, WHOLE)])
    assert backend.run_hop([]) == []


def test_a_session_of_another_backend_is_refused(backend: Backend, tiny_onnx_model: Path) -> None:
    other = open_model(tiny_onnx_model)
    stranger = other.new_session(hop_frames=4, seed=0)
    with pytest.raises(StreamError, match="expected a session of this"):
        backend.run_hop([HopInput(stranger, MEL, WHOLE, WHOLE)])


@pytest.mark.parametrize("module", [openvino_backend, onnxruntime_backend])
@pytest.mark.parametrize("damage", ["missing graph", "corrupt graph", "missing weights", "cut"])
def test_a_damaged_folder_is_a_backend_error_that_names_the_file(
    tiny_onnx_model: Path,
    tmp_path: Path,
    module: ModuleType,
    damage: str,
) -> None:
    folder = copy_of(tiny_onnx_model, tmp_path)
    if damage == "missing graph":
        (folder / "codec_encoder.onnx").unlink()
    elif damage == "corrupt graph":
        (folder / "codec_encoder.onnx").write_bytes(b"\x00 not a graph")
    elif damage == "missing weights":
        (folder / "codec.safetensors").unlink()
    else:
        weights = folder / "codec.safetensors"
        weights.write_bytes(weights.read_bytes()[:500])
    with pytest.raises(BackendError, match=r"codec_encoder\.onnx"):
        module.open_model(folder)


def test_onnxruntime_runs_f32_only(tiny_onnx_model: Path) -> None:
    with pytest.raises(BackendError, match="f32 only"):
        onnxruntime_backend.open_model(tiny_onnx_model, "bf16")


def test_graph_backends_need_some_context(tiny_onnx_model: Path) -> None:
    backend = onnxruntime_backend.open_model(tiny_onnx_model)
    with pytest.raises(BackendError, match="hop of at most 15"):
        backend.new_session(hop_frames=16, seed=0)


def test_torch_runs_a_whole_window_as_one_hop(tiny_onnx_model: Path) -> None:
    backend = open_model(tiny_onnx_model)
    session = backend.new_session(hop_frames=16, seed=0)
    item = HopInput(session, np.tile(MEL, (4, 1, 1)), *[np.tile(WHOLE, (4, 1, 1, 1))] * 2)
    assert backend.run_hop([item])[0].crops.shape == (16, 32, 32, 3)


def test_torch_carries_the_moments_of_pooled_norms(tmp_path: Path) -> None:
    pooled = dataclasses.replace(TINY_SPEC.unet, per_frame_norm=False)
    make_tiny_model(tmp_path, unet=pooled, carry="carry")
    backend = open_model(tmp_path)
    session = backend.new_session(hop_frames=4, seed=0)
    noise = np.random.default_rng(0).standard_normal(WHOLE.shape, np.float32)
    bright, dark = (
        backend.run_hop([HopInput(session, MEL, WHOLE + value, WHOLE)])[0].crops
        for value in (noise, 0 * noise)
    )
    session.reset()
    alone = backend.run_hop([HopInput(session, MEL, WHOLE, WHOLE)])[0].crops
    assert bright.shape == dark.shape == alone.shape
    assert np.abs(dark.astype(int) - alone.astype(int)).max() > 1  # the moments were carried


@pytest.mark.parametrize(
    ("overrides", "named"),
    [
        ({"carry": "pinned"}, "carry 'pinned'"),
        ({"start": "warm"}, "start 'warm'"),
        ({"timesteps": (999, 499), "solver": "renoise"}, "solver 'renoise'"),
        ({"guidance_scale": 1.5}, "guided steps"),
    ],
)
def test_graphs_refuse_what_they_do_not_hold(
    tiny_onnx_model: Path, overrides: dict[str, Any], named: str
) -> None:
    spec = dataclasses.replace(ModelSpec.read(tiny_onnx_model), **overrides)
    with pytest.raises(BackendError, match=named):
        onnxruntime_backend.open_model(tiny_onnx_model, spec=spec)
