"""Every backend computes what torch computes, alone or among others."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from engine.backends import onnxruntime_backend, openvino_backend, torch_backend
from engine.backends.base import Backend, HopInput, SessionState
from engine.backends.portable import change_hop, is_portable
from engine.media import F32, U8
from engine.spec import WARP_CHANNELS
from tests.tiny_models import TINY_SPEC, make_tiny_model

BUNDLED = Path(__file__).parents[3] / "engine" / "bundled" / "model"

OPENERS: dict[str, Callable[[Path], Backend]] = {
    "torch": lambda folder: torch_backend.open_model(folder),
    "openvino f32": lambda folder: openvino_backend.open_model(folder, "f32"),
    "openvino bf16": lambda folder: openvino_backend.open_model(folder, "bf16"),
    "onnxruntime": lambda folder: onnxruntime_backend.open_model(folder),
}


def inputs_of(backend: Backend, hop: int, seed: int, hops: int) -> list[tuple[F32, F32, F32]]:
    """Random log-mels, masked and reference latents of a run of hops."""
    spec = backend.spec
    rng = np.random.default_rng(seed)
    mel_shape = (hop, spec.audio.n_mels, spec.audio.mel_frames)
    latents_shape = (hop, spec.codec.latent_channels, spec.latent_size, spec.latent_size)
    return [
        (
            rng.standard_normal(mel_shape, np.float32),
            rng.standard_normal(latents_shape, np.float32),
            rng.standard_normal(latents_shape, np.float32),
        )
        for _ in range(hops)
    ]


def run_alone(backend: Backend, hop: int, seed: int, hops: int = 5) -> U8:
    """[hops * h, R, R, 3] crops of one session."""
    session = backend.new_session(hop_frames=hop, seed=seed)
    crops = [
        backend.run_hop([HopInput(session, *item)])[0].crops
        for item in inputs_of(backend, hop, seed, hops)
    ]
    return np.concatenate(crops)


def levels_apart(ours: U8, theirs: U8) -> NDArray[np.int32]:
    """Absolute differences in 8-bit levels."""
    return np.abs(ours.astype(np.int32) - theirs.astype(np.int32))


@pytest.fixture(scope="module")
def backends(tiny_onnx_model: Path) -> dict[str, Backend]:
    return {name: opened(tiny_onnx_model) for name, opened in OPENERS.items()}


@pytest.mark.parametrize("hop", [1, 4, 9])
@pytest.mark.parametrize("name", ["openvino f32", "onnxruntime"])
def test_f32_backends_give_torchs_pictures(
    backends: dict[str, Backend], name: str, hop: int
) -> None:
    apart = levels_apart(run_alone(backends[name], hop, 3), run_alone(backends["torch"], hop, 3))
    assert apart.max() <= 1  # a value on the edge between two levels may round either way
    assert apart.mean() < 0.01


def test_two_steps_carry_a_set_of_rings_each(tmp_path: Path) -> None:
    make_tiny_model(tmp_path, 1, onnx=True, timesteps=(999, 699), prediction_type="v_prediction")
    crops = [run_alone(OPENERS[name](tmp_path), 4, 3) for name in ("openvino f32", "torch")]
    assert levels_apart(*crops).max() <= 1


def test_graph_backends_give_the_last_steps_warp(tmp_path: Path) -> None:
    warping = dataclasses.replace(TINY_SPEC.unet, source_warp=True, reference_gate=True)
    make_tiny_model(tmp_path, 1, onnx=True, unet=warping, timesteps=(999, 699))
    made = {}
    for name in ("torch", "openvino f32", "onnxruntime"):
        backend = OPENERS[name](tmp_path)
        session = backend.new_session(hop_frames=4, seed=3)
        made[name] = [
            backend.run_hop([HopInput(session, *item)])[0] for item in inputs_of(backend, 4, 3, 5)
        ]
    for name in ("openvino f32", "onnxruntime"):
        for ours, theirs in zip(made[name], made["torch"], strict=True):
            assert levels_apart(ours.crops, theirs.crops).max() <= 1
            assert ours.warps is not None and theirs.warps is not None
            assert ours.warps.shape == (4, WARP_CHANNELS, 4, 4)
            np.testing.assert_allclose(ours.warps, theirs.warps, atol=1e-4)


def test_bf16_stays_near_torch(backends: dict[str, Backend]) -> None:
    ours = run_alone(backends["openvino bf16"], 4, 3)
    theirs = run_alone(backends["torch"], 4, 3)
    # bf16 keeps 8 bits of a number; random weights damp no error on its way.
    assert np.sqrt((levels_apart(ours, theirs) ** 2).mean()) < 0.2 * theirs.std()


@pytest.mark.parametrize("name", ["openvino f32", "onnxruntime", "torch"])
@pytest.mark.parametrize("masked", [False, True])
def test_codec_latents_agree(backends: dict[str, Backend], name: str, masked: bool) -> None:
    crops = np.random.default_rng(0).integers(0, 256, (7, 32, 32, 3), dtype=np.uint8)
    want = backends["torch"].encode(crops, masked=masked)
    got = backends[name].encode(crops, masked=masked)
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, want, atol=1e-5)
    assert backends[name].encode(crops[:0], masked=masked).shape == (0, 4, 4, 4)


@pytest.mark.parametrize("name", OPENERS)
def test_a_session_gives_the_same_alone_and_among_others(
    backends: dict[str, Backend], name: str
) -> None:
    backend = backends[name]
    alone = [run_alone(backend, 4, seed) for seed in range(3)]
    sessions = [backend.new_session(hop_frames=4, seed=seed) for seed in range(3)]
    streams = [inputs_of(backend, 4, seed, 5) for seed in range(3)]
    together = [
        backend.run_hop(
            [HopInput(session, *streams[seed][turn]) for seed, session in enumerate(sessions)]
        )
        for turn in range(5)
    ]
    for seed in range(3):
        crops = np.concatenate([hop[seed].crops for hop in together])
        assert levels_apart(crops, alone[seed]).max() <= 1


@pytest.mark.parametrize("name", OPENERS)
def test_a_reset_session_starts_over_as_a_fresh_one(
    backends: dict[str, Backend], name: str
) -> None:
    backend = backends[name]
    session = backend.new_session(hop_frames=4, seed=5)
    stream = inputs_of(backend, 4, 5, 3)

    def play() -> list[U8]:
        return [backend.run_hop([HopInput(session, *item)])[0].crops for item in stream]

    first = play()
    carried = play()
    session.reset()
    np.testing.assert_array_equal(first, play())
    assert levels_apart(first[0], carried[0]).max() > 1  # context matters


@pytest.mark.parametrize("name", OPENERS)
def test_hops_of_another_length_go_on_from_what_is_carried(
    backends: dict[str, Backend], name: str
) -> None:
    backend = backends[name]
    first, second, third = inputs_of(backend, 4, 5, 3)
    kept = backend.new_session(hop_frames=4, seed=5)
    changed: SessionState | None = backend.new_session(hop_frames=4, seed=5)
    assert changed is not None and is_portable(backend, 4)
    for session in (kept, changed):
        backend.run_hop([HopInput(session, *first)])
    # Nothing that hops of four read is lost on the way to hops of two and back.
    for hop in (2, 4):
        changed = change_hop(backend, changed, hop)
        assert changed is not None
    expected = backend.run_hop([HopInput(kept, *second)])[0].crops
    assert np.array_equal(backend.run_hop([HopInput(changed, *second)])[0].crops, expected)
    shorter = change_hop(backend, changed, 2)
    assert shorter is not None
    mel, masked, whole = (part[:2] for part in third)
    ours = backend.run_hop([HopInput(shorter, mel, masked, whole)])[0].crops
    fresh = backend.new_session(hop_frames=2, seed=5)
    afresh = backend.run_hop([HopInput(fresh, mel, masked, whole)])[0].crops
    assert ours.shape == afresh.shape
    assert not np.array_equal(ours, afresh)


@pytest.mark.parametrize("name", OPENERS)
def test_results_stay_after_the_next_hop(backends: dict[str, Backend], name: str) -> None:
    backend = backends[name]
    session = backend.new_session(hop_frames=4, seed=2)
    (first, second) = inputs_of(backend, 4, 2, 2)
    crops = backend.run_hop([HopInput(session, *first)])[0].crops
    latents = backend.encode(crops, masked=True)
    kept = crops.copy(), latents.copy()
    backend.run_hop([HopInput(session, *second)])
    backend.encode(np.zeros_like(crops), masked=False)
    np.testing.assert_array_equal(crops, kept[0])
    np.testing.assert_array_equal(latents, kept[1])


@pytest.mark.skipif(
    not (BUNDLED / "unet.onnx").is_file(), reason="no bundled model in this checkout"
)
def test_the_bundled_model_agrees_with_torch() -> None:
    torch_crops = run_alone(OPENERS["torch"](BUNDLED), 4, 0, hops=3)
    for name, largest, mean in (("openvino f32", 1, 0.01), ("onnxruntime", 1, 0.01)):
        apart = levels_apart(run_alone(OPENERS[name](BUNDLED), 4, 0, hops=3), torch_crops)
        assert apart.max() <= largest
        assert apart.mean() < mean
    apart = levels_apart(run_alone(OPENERS["openvino bf16"](BUNDLED), 4, 0, hops=3), torch_crops)
    assert apart.mean() < 2.0
