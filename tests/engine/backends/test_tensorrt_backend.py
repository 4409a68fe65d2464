"""TensorRT's backend computes what onnxruntime's does, on a device that checks every call."""

from __future__ import annotations

import dataclasses
import gc
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine.backends import onnxruntime_backend, torch_backend
from engine.backends.base import Backend, GeneratedHop, HopInput, SessionState
from engine.backends.tensorrt_backend import TensorRtBackend
from engine.backends.tensorrt_plans import PlanPrecision
from engine.errors import BackendError, DeviceError, OutOfDeviceMemory, StreamError
from engine.media import F32
from tests.fake_plans import FakeGpu
from tests.tiny_models import TINY_SPEC, make_tiny_model

HOP = 4
Faces = tuple[F32, F32, F32]


@pytest.fixture
def gpu(tiny_gpu: FakeGpu) -> FakeGpu:
    return tiny_gpu.fresh()


@pytest.fixture
def backend(gpu: FakeGpu) -> TensorRtBackend:
    backend = gpu.backend()
    backend.warm_up(HOP)
    return backend


class Pair:
    """The same sessions on two backends, given the same inputs."""

    def __init__(self, ours: Backend, theirs: Backend, seed: int = 0) -> None:
        self.ours, self.theirs = ours, theirs
        self.sessions: dict[int, tuple[SessionState, SessionState]] = {}
        self._random = np.random.default_rng(seed)

    def join(self, name: int) -> None:
        self.sessions[name] = (
            self.ours.new_session(hop_frames=HOP, seed=name),
            self.theirs.new_session(hop_frames=HOP, seed=name),
        )

    def faces(self) -> Faces:
        spec = self.ours.spec
        audio, size = spec.audio, spec.latent_size
        face = (HOP, spec.codec.latent_channels, size, size)
        mel = self._random.standard_normal((HOP, audio.n_mels, audio.mel_frames), np.float32)
        masked, reference = self._random.standard_normal((2, *face), np.float32)
        return mel, masked, reference

    def hop(self, *names: int) -> None:
        """One batch of these sessions on both, held against each other."""
        given = [self.faces() for _ in names]
        own, other = zip(*(self.sessions[name] for name in names), strict=True)
        ours = self.ours.run_hop([HopInput(s, *f) for s, f in zip(own, given, strict=True)])
        theirs = self.theirs.run_hop([HopInput(s, *f) for s, f in zip(other, given, strict=True)])
        for our, their in zip(ours, theirs, strict=True):
            assert_same(our, their)


def assert_same(ours: GeneratedHop, theirs: GeneratedHop) -> None:
    apart = np.abs(ours.crops.astype(np.int32) - theirs.crops.astype(np.int32))
    assert apart.max() <= 1  # a value on the edge between two levels may round either way
    assert apart.mean() < 1e-3
    if theirs.warps is not None:
        assert ours.warps is not None
        np.testing.assert_allclose(ours.warps, theirs.warps, atol=2e-5)


def inputs(backend: Backend, *sessions: SessionState) -> list[HopInput]:
    pair = Pair(backend, backend)
    return [HopInput(session, *pair.faces()) for session in sessions]


def test_many_hops_of_sessions_that_come_and_go_are_onnxruntimes(
    backend: TensorRtBackend, tiny_onnx_model: Path
) -> None:
    pair = Pair(backend, onnxruntime_backend.open_model(tiny_onnx_model))
    order = np.random.default_rng(7)
    for name in range(3):
        pair.join(name)
    for hop in range(36):  # rings of 12 frames go round a dozen times
        if hop in (8, 20):
            pair.join(10 + hop)
        if hop in (14, 25):
            del pair.sessions[min(pair.sessions)]
        if hop in (5, 11, 28):  # interrupts
            for state in pair.sessions[max(pair.sessions)]:
                state.reset()
        names = order.permutation(list(pair.sessions))[: order.integers(1, 5)]
        pair.hop(*map(int, names))


def test_a_batch_beyond_the_largest_bucket_runs_in_parts(
    backend: TensorRtBackend, tiny_onnx_model: Path
) -> None:
    pair = Pair(backend, onnxruntime_backend.open_model(tiny_onnx_model))
    for name in range(7):
        pair.join(name)
    for _ in range(3):
        pair.hop(*range(7))
        pair.hop(6, 0, 3, 5, 1)


def test_codec_latents_are_onnxruntimes(backend: TensorRtBackend, tiny_onnx_model: Path) -> None:
    crops = np.random.default_rng(0).integers(0, 256, (19, 32, 32, 3), dtype=np.uint8)
    other = onnxruntime_backend.open_model(tiny_onnx_model)
    for masked in (True, False):
        want = other.encode(crops, masked=masked)
        np.testing.assert_allclose(backend.encode(crops, masked=masked), want, atol=1e-5)
        assert backend.encode(crops[:0], masked=masked).shape == (0, 4, 4, 4)


WAYS: dict[str, dict[str, Any]] = {
    "causal, two of three steps guided, with warps": {
        "unet": {"source_warp": True, "reference_gate": True},
        "timesteps": (999, 699, 299),
        "prediction_type": "v_prediction",
        "guidance_scale": 1.5,
        "guided_steps": (0, 2),
    },
    "carried moments, guided, a noise for each step": {
        "unet": {"per_frame_norm": False, "source_warp": True},
        "timesteps": (999, 699, 299),
        "prediction_type": "epsilon",
        "solver": "renoise",
        "carry": "carry",
        "guidance_scale": 2.0,
    },
    "pinned, as LatentSync 1.5 is published": {
        "unet": {"per_frame_norm": False},
        "timesteps": (999, 699),
        "prediction_type": "epsilon",
        "carry": "pinned",
        "window_frames": 10,
    },
    "pinned, guided, with warps, a noise for each step": {
        "unet": {"source_warp": True, "per_frame_norm": False},
        "timesteps": (999, 499),
        "prediction_type": "v_prediction",
        "solver": "renoise",
        "carry": "pinned",
        "window_frames": 10,
        "guidance_scale": 1.5,
        "guided_steps": (1,),
    },
}


@pytest.mark.parametrize("way", WAYS)
def test_a_way_of_running_is_torchs(tmp_path: Path, way: str) -> None:
    unet = dataclasses.replace(TINY_SPEC.unet, **WAYS[way]["unet"])
    make_tiny_model(tmp_path / "model", 1, **{**WAYS[way], "unet": unet})
    gpu = FakeGpu(tmp_path / "model", tmp_path / "graphs", buckets=(1, 2))
    pair = Pair(gpu.backend(), torch_backend.open_model(tmp_path / "model"))
    pair.join(0)
    pair.join(1)
    for turn, names in enumerate([(0, 1), (1,), (0,), (0, 1), (1, 0), (0,), (0, 1)]):
        if turn == 4:
            for state in pair.sessions[0]:
                state.reset()
        pair.hop(*names)


def test_whole_windows_are_torchs(tmp_path: Path) -> None:
    spec = make_tiny_model(tmp_path / "model", carry="disjoint", hop_frames=HOP, window_frames=HOP)
    assert spec.window_frames == HOP
    backend = FakeGpu(tmp_path / "model", tmp_path / "graphs", buckets=(1, 2)).backend()
    pair = Pair(backend, torch_backend.open_model(tmp_path / "model"))
    pair.join(0)
    pair.join(1)
    for names in [(0, 1), (1,), (0, 1)]:
        pair.hop(*names)


@pytest.mark.parametrize(("precision", "near"), [("f16", 0.02), ("bf16", 0.1)])
def test_16_bits_stay_near_f32(
    tiny_onnx_model: Path, tmp_path: Path, precision: PlanPrecision, near: float
) -> None:
    backend = FakeGpu(tiny_onnx_model, tmp_path, buckets=(1,), precision=precision).backend()
    assert backend.name == f"tensorrt-{precision}"
    other = onnxruntime_backend.open_model(tiny_onnx_model)
    pair = Pair(backend, other)
    pair.join(0)
    ours, theirs = pair.sessions[0]
    for _ in range(5):
        faces = pair.faces()
        (got,) = backend.run_hop([HopInput(ours, *faces)])
        (want,) = other.run_hop([HopInput(theirs, *faces)])
        apart = got.crops.astype(np.float32) - want.crops
        assert np.sqrt(np.square(apart).mean()) < near * want.crops.std()


def test_every_tensor_is_bound_once_for_each_bucket_and_never_again(
    gpu: FakeGpu, backend: TensorRtBackend
) -> None:
    bound = Counter(gpu.api.bound)
    assert set(bound.values()) == {len(gpu.served.buckets)}  # one step, so one context a bucket
    tensors = sum(len(g.inputs) + len(g.outputs) for g in gpu.graphs.values())
    assert len(bound) == tensors
    sessions = [backend.new_session(hop_frames=HOP, seed=seed) for seed in range(4)]
    for count in (1, 2, 4, 3, 1):
        backend.run_hop(inputs(backend, *sessions[:count]))
    assert Counter(gpu.api.bound) == bound


def test_a_hop_is_one_launch_and_only_its_frames_come_to_the_host(
    gpu: FakeGpu, backend: TensorRtBackend
) -> None:
    first, second = (backend.new_session(hop_frames=HOP, seed=seed) for seed in range(2))
    crop = np.zeros((1, 32, 32, 3), np.uint8)
    backend.run_hop(inputs(backend, first, second))
    backend.encode(crop, masked=True)  # waits until the rings are written
    before, done = gpu.cuda.calls.copy(), len(gpu.cuda.copies)
    for _ in range(3):
        backend.run_hop(inputs(backend, first, second))
    calls = gpu.cuda.calls - before
    assert calls["launch"] == 3 and not calls["begin_capture"] and not calls["allocate"]
    assert not calls["synchronize"] and calls["wait_for"] == 3
    backend.encode(crop, masked=True)
    copies = gpu.cuda.copies[done:]
    frames = 2 * HOP * 32 * 32 * 3
    latents = HOP * 4 * 4 * 4 * 4
    assert [c.size for c in copies if c.direction == "to host"] == [frames] * 3 + [latents]
    # On the device only the new frames' keys and values move.
    outputs = gpu.graphs["unet"].outputs
    new = [tensor.at(1) for tensor in outputs if tensor.name.startswith("new_")]
    moved = 3 * 2 * sum(4 * int(np.prod(shape)) for shape in new)
    assert sum(c.size for c in copies if c.direction == "on device") == moved


def test_a_newcomer_moves_its_rings_and_those_of_whom_it_replaces_once(
    gpu: FakeGpu, backend: TensorRtBackend
) -> None:
    first, second = (backend.new_session(hop_frames=HOP, seed=seed) for seed in range(2))
    for session in (first, second):
        backend.run_hop(inputs(backend, session))
    before = gpu.cuda.calls["copy"]
    backend.run_hop(inputs(backend, first))
    rings = sum(t.name.startswith("ring_") for t in gpu.graphs["unet"].inputs)
    assert gpu.cuda.calls["copy"] - before == 2 * rings + 1  # and its noise
    before = gpu.cuda.calls["copy"]
    backend.run_hop(inputs(backend, first))
    assert gpu.cuda.calls["copy"] == before


def test_every_bucket_is_captured_once(gpu: FakeGpu, backend: TensorRtBackend) -> None:
    assert gpu.cuda.calls["instantiate"] == 2 * len(gpu.served.buckets)  # hops and encodings
    backend.warm_up(HOP)
    backend.run_hop(inputs(backend, backend.new_session(hop_frames=HOP, seed=0)))
    assert gpu.cuda.calls["instantiate"] == 2 * len(gpu.served.buckets)


def test_what_cannot_be_captured_is_run_call_by_call(
    gpu: FakeGpu, tiny_onnx_model: Path, caplog: pytest.LogCaptureFixture
) -> None:
    gpu.api.capturable = False
    backend = gpu.backend()
    pair = Pair(backend, onnxruntime_backend.open_model(tiny_onnx_model))
    pair.join(0)
    for _ in range(3):
        pair.hop(0)
    assert "not captured as a CUDA graph" in caplog.text
    assert not gpu.cuda.calls["launch"] and gpu.cuda.held["graphs"] == 0


def test_sessions_that_went_leave_no_memory_behind(gpu: FakeGpu, backend: TensorRtBackend) -> None:
    empty = gpu.cuda.held
    for seed in range(6):
        session = backend.new_session(hop_frames=HOP, seed=seed)
        backend.run_hop(inputs(backend, session))
    del session
    gc.collect()
    backend.run_hop(inputs(backend, last := backend.new_session(hop_frames=HOP, seed=9)))
    assert gpu.cuda.held["device"] == empty["device"] + 1
    del last
    gc.collect()
    backend.close()
    assert not any(gpu.cuda.held.values())


def test_a_session_that_the_device_has_no_room_for_is_refused_and_the_others_go_on(
    gpu: FakeGpu, backend: TensorRtBackend
) -> None:
    session = backend.new_session(hop_frames=HOP, seed=0)
    gpu.cuda.capacity = gpu.cuda.used + 100
    with pytest.raises(OutOfDeviceMemory, match=r"FakeGPU has no room for another session of"):
        backend.new_session(hop_frames=HOP, seed=1)
    backend.run_hop(inputs(backend, session))


def test_a_device_with_no_room_for_the_buffers_is_refused_and_keeps_nothing(gpu: FakeGpu) -> None:
    small = gpu.fresh(capacity=200_000)
    with pytest.raises(OutOfDeviceMemory):
        small.backend()
    assert small.cuda.held["device"] == 0 and small.cuda.held["pinned"] == 0


@pytest.mark.parametrize("call", ["launch", "record", "wait_for"])
def test_a_hop_that_the_device_refuses_leaves_the_other_sessions_as_they_were(
    gpu: FakeGpu, backend: TensorRtBackend, tiny_onnx_model: Path, call: str
) -> None:
    pair = Pair(backend, onnxruntime_backend.open_model(tiny_onnx_model))
    for name in range(3):
        pair.join(name)
    pair.hop(0, 1, 2)
    gpu.cuda.refuse = {call}
    with pytest.raises(DeviceError, match=f"{call} was refused"):
        pair.ours.run_hop([HopInput(pair.sessions[2][0], *pair.faces())])
    gpu.cuda.refuse = set()
    for state in pair.sessions[2]:
        state.reset()
    pair.hop(0, 1)
    pair.hop(2)
    pair.hop(2, 1, 0)


def test_rings_that_could_not_be_written_are_forgotten_and_no_others(
    gpu: FakeGpu, backend: TensorRtBackend, tiny_onnx_model: Path
) -> None:
    pair = Pair(backend, onnxruntime_backend.open_model(tiny_onnx_model))
    for name in range(3):
        pair.join(name)
    pair.hop(0, 1, 2)
    gpu.cuda.refuse = {"copy_rows"}
    with pytest.raises(DeviceError, match="copy_rows was refused"):
        pair.ours.run_hop([HopInput(pair.sessions[1][0], *pair.faces())])
    gpu.cuda.refuse = set()
    pair.sessions[1][1].reset()  # ours has forgotten its context by itself
    for _ in range(3):
        pair.hop(0, 1, 2)


def test_what_a_session_leaves_in_a_row_does_not_reach_the_next_one(
    gpu: FakeGpu, backend: TensorRtBackend, tiny_onnx_model: Path
) -> None:
    ill = backend.new_session(hop_frames=HOP, seed=0)
    (item,) = inputs(backend, ill)
    item.mel[:] = np.nan
    backend.run_hop([item])
    pair = Pair(backend, onnxruntime_backend.open_model(tiny_onnx_model))
    pair.join(1)
    for _ in range(3):
        pair.hop(1)
    ill.reset()
    (well,) = backend.run_hop(inputs(backend, ill))
    assert well.crops.std() > 1


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"carry": "disjoint"}, "carry 'disjoint' in hops of less than 16"),
        ({"carry": "carry", "refresh_hops": 4}, "refresh_hops 4"),
        ({"start": "warm"}, "start 'warm'"),
    ],
)
def test_ways_of_running_that_are_not_in_the_plans_are_refused(
    gpu: FakeGpu, changed: dict[str, Any], why: str
) -> None:
    with pytest.raises(BackendError, match=rf"{why}.*use .*torch"):
        gpu.backend(**changed)


def test_plans_that_do_not_fit_the_model_are_refused_with_both(gpu: FakeGpu) -> None:
    with pytest.raises(BackendError, match=r"expected profiles of \[1, 2\] rows, got \(1, 2, 4\)"):
        TensorRtBackend(
            gpu.spec, gpu.cuda, gpu.plans, name="tensorrt", precision="f32", buckets=(1, 2)
        )
    with pytest.raises(BackendError, match=r"expected output .* as f16 .*, got .* as f32"):
        TensorRtBackend(
            gpu.spec, gpu.cuda, gpu.plans, name="tensorrt", precision="f16", buckets=(1, 2, 4)
        )


def test_sessions_of_another_backend_are_refused(gpu: FakeGpu, backend: TensorRtBackend) -> None:
    other = gpu.fresh().backend()
    with pytest.raises(StreamError, match="expected a session of this tensorrt-f32 backend"):
        backend.run_hop(inputs(backend, other.new_session(hop_frames=HOP, seed=0)))
