"""Sessions move to a better backend between two hops, and back where it fails: nothing jumps."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest

from engine.avatar import Avatar, AvatarSource, PreparedAvatar, prepare_avatar
from engine.backends import onnxruntime_backend, openvino_backend, torch_backend
from engine.backends.base import Backend, GeneratedHop, HopInput
from engine.backends.onnx_graphs import GraphBackend
from engine.backends.switching import TRIAL_HOPS, SwitchingBackend, blend
from engine.errors import BackendError, StreamError
from engine.media import F32, FRAME_SAMPLES, U8, Picture
from engine.scheduler import Scheduler
from engine.stream import Stream, StreamOptions
from tests.fakes import FakeBackend, FakeState, speech

HOP = 4
OPENERS: dict[str, Callable[[Path], Backend]] = {
    "onnxruntime": onnxruntime_backend.open_model,
    "openvino": lambda folder: openvino_backend.open_model(folder, "f32"),
    "torch": torch_backend.open_model,
}


@pytest.fixture(scope="module")
def backends(tiny_onnx_model: Path) -> dict[str, Backend]:
    return {name: opened(tiny_onnx_model) for name, opened in OPENERS.items()}


def hops_of(backend: Backend, seed: int, hops: int) -> Iterator[tuple[F32, F32, F32]]:
    """Random log-mels, masked and reference latents."""
    spec, rng = backend.spec, np.random.default_rng(seed)
    latents = (HOP, spec.codec.latent_channels, spec.latent_size, spec.latent_size)
    for _ in range(hops):
        yield (
            rng.standard_normal((HOP, spec.audio.n_mels, spec.audio.mel_frames), np.float32),
            rng.standard_normal(latents, np.float32),
            rng.standard_normal(latents, np.float32),
        )


def run(backend: Backend, sessions: int, hops: int, before: Callable[[int], object]) -> U8:
    """[sessions, hops * h, R, R, 3]: all sessions in one batch; `before` is told each hop."""
    states = [backend.new_session(hop_frames=HOP, seed=number) for number in range(sessions)]
    inputs = [list(hops_of(backend, number, hops)) for number in range(sessions)]
    shown = []
    for hop in range(hops):
        before(hop)
        batch = [HopInput(state, *own[hop]) for state, own in zip(states, inputs, strict=True)]
        shown.append(np.stack([made.crops for made in backend.run_hop(batch)]))
    return np.concatenate(shown, axis=1)


def levels_apart(ours: U8, theirs: U8) -> int:
    return int(np.abs(ours.astype(np.int32) - theirs.astype(np.int32)).max())


def nothing(hop: int) -> None:
    """No switch."""


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("onnxruntime", "openvino"),
        ("openvino", "onnxruntime"),
        ("torch", "openvino"),
        ("onnxruntime", "torch"),
    ],
)
@pytest.mark.parametrize("at", [1, 6])
def test_frames_across_the_switch_are_those_of_a_run_that_never_switched(
    backends: dict[str, Backend], first: str, second: str, at: int
) -> None:
    unswitched = run(backends[first], 3, 9, nothing)
    backend = SwitchingBackend(backends[first])

    def switch(hop: int) -> None:
        if hop == at:
            backend.switch_to(backends[second])

    switched = run(backend, 3, 9, switch)
    assert backend.name == backends[second].name and backend.failure is None
    assert levels_apart(switched, unswitched) <= 1  # a value on an edge may round either way


def test_without_what_is_carried_the_frames_would_differ(backends: dict[str, Backend]) -> None:
    backend = backends["onnxruntime"]
    whole = run(backend, 1, 9, nothing)
    state = backend.new_session(hop_frames=HOP, seed=0)
    shown = []
    for hop, item in enumerate(hops_of(backend, 0, 9)):
        if hop == 6:
            state.reset()
        shown.append(backend.run_hop([HopInput(state, *item)])[0].crops)
    assert levels_apart(np.concatenate(shown)[None, 24:28], whole[:, 24:28]) > 5


def prepared(backend: Backend) -> PreparedAvatar:
    random = np.random.default_rng(1)
    pictures = tuple(
        Picture(random.integers(16, 235, (120 * 3 // 2, 96), np.uint8)) for _ in range(6)
    )
    points = np.array([[30, 18], [66, 18], [48, 38]], np.float32)
    clip = Avatar("noise", "Noise", "CC0", "wrap", pictures, points[None].repeat(6, axis=0), 0)
    return prepare_avatar(clip, backend)


def shown_by_calls(backend: Backend, avatar: PreparedAvatar, switch: Callable[[int], object]) -> U8:
    """[calls, frames, H, W] luma of three calls that begin one after the other."""
    scheduler = Scheduler(backend, max_batch=3)
    streams: list[Stream] = []
    shown: dict[int, list[U8]] = {}
    sound = speech(60, seed=9)
    for turn in range(30):
        if turn % 3 == 0 and len(streams) < 3:
            options = StreamOptions(hop_frames=HOP, realtime=False, seed=turn)
            streams.append(Stream(backend, AvatarSource(avatar), options))
            scheduler.add(streams[-1])
        switch(turn)
        for stream in streams:
            start = stream.position_samples
            stream.push_audio(sound[start : start + 2 * FRAME_SAMPLES])
        while outputs := scheduler.run_due():
            for output in outputs:
                assert output.error is None
                planes = [frame.picture.i420 for frame in output.frames]
                shown.setdefault(id(output.stream), []).extend(planes)
    return np.stack([np.stack(shown[id(stream)][:40]) for stream in streams])


def test_calls_in_one_batch_do_not_see_the_switch(backends: dict[str, Backend]) -> None:
    avatar = prepared(backends["onnxruntime"])
    unswitched = shown_by_calls(backends["onnxruntime"], avatar, nothing)
    backend = SwitchingBackend(backends["onnxruntime"])

    def switch(turn: int) -> None:
        if turn == 13:
            backend.switch_to(backends["openvino"])

    assert levels_apart(shown_by_calls(backend, avatar, switch), unswitched) <= 2


class Breaks:
    """A backend that raises in its hops of some numbers, after it has spoilt their sessions."""

    def __init__(self, backend: Backend, *numbers: int) -> None:
        assert isinstance(backend, GraphBackend)
        self.inner = backend
        self.numbers = numbers
        self.hops = 0
        self.name, self.spec, self.max_batch = "breaks", backend.spec, backend.max_batch
        self.encode, self.new_session = backend.encode, backend.new_session
        self.export_session, self.import_session = backend.export_session, backend.import_session
        self.warm_up = backend.warm_up

    def run_hop(self, batch: Sequence[HopInput]) -> list[GeneratedHop]:
        self.hops += 1
        made = self.inner.run_hop(batch)
        if self.hops - 1 in self.numbers:
            raise RuntimeError("an illegal memory access")
        return made


@pytest.mark.parametrize("failing", [0, 1, 5])
def test_a_better_backend_that_fails_in_its_first_hops_is_let_go_and_no_call_notices(
    backends: dict[str, Backend], failing: int, caplog: pytest.LogCaptureFixture
) -> None:
    unswitched = run(backends["onnxruntime"], 3, 9, nothing)
    backend = SwitchingBackend(backends["onnxruntime"])
    broken = Breaks(backends["openvino"], failing)

    def switch(hop: int) -> None:
        if hop == 2:
            backend.switch_to(broken)

    assert levels_apart(run(backend, 3, 9, switch), unswitched) <= 1
    assert broken.hops == failing + 1  # it is not tried again
    assert backend.name == "onnxruntime-f32" and not backend.switching
    assert backend.failure is not None and "illegal memory access" in backend.failure
    assert "going back to onnxruntime-f32" in caplog.text


def test_a_failure_after_the_trial_is_the_streams_own(backends: dict[str, Backend]) -> None:
    backend = SwitchingBackend(backends["onnxruntime"])
    backend.switch_to(Breaks(backends["openvino"], TRIAL_HOPS))
    with pytest.raises(RuntimeError, match="illegal memory access"):
        run(backend, 1, TRIAL_HOPS + 1, nothing)


def test_after_the_trial_idle_sessions_have_moved_and_the_old_backend_is_freed(
    tiny_onnx_model: Path, backends: dict[str, Backend]
) -> None:
    old = onnxruntime_backend.open_model(tiny_onnx_model)
    freed = weakref.ref(old)
    backend = SwitchingBackend(old)
    del old
    idle = backend.new_session(hop_frames=HOP, seed=7)
    first, second = hops_of(backend, 7, 2)
    (shown,) = backend.run_hop([HopInput(idle, *first)])
    backend.switch_to(backends["openvino"])
    gc.collect()
    assert backend.switching and freed() is not None
    run(backend, 2, TRIAL_HOPS, nothing)
    gc.collect()
    assert not backend.switching and freed() is None
    (after,) = backend.run_hop([HopInput(idle, *second)])
    reference = backends["onnxruntime"]
    whole = reference.new_session(hop_frames=HOP, seed=7)
    for item, own in zip((first, second), (shown, after), strict=True):
        (made,) = reference.run_hop([HopInput(whole, *item)])
        assert levels_apart(own.crops, made.crops) <= 1


class Loud(FakeBackend):
    """A backend that is not portable; its crops are blue."""

    name = "loud"

    def run_hop(self, batch: Sequence[HopInput]) -> list[GeneratedHop]:
        made = super().run_hop(batch)
        for hop in made:
            hop.crops[..., 2] = 200
        return made


def fake_hop(backend: FakeBackend) -> tuple[F32, F32, F32]:
    spec = backend.spec
    latents = np.zeros((HOP, spec.codec.latent_channels, spec.latent_size, spec.latent_size))
    mel = np.zeros((HOP, spec.audio.n_mels, spec.audio.mel_frames), np.float32)
    return mel, latents.astype(np.float32), latents.astype(np.float32)


def test_a_session_that_cannot_be_carried_over_is_blended_over_one_hop() -> None:
    old, better = FakeBackend(), Loud()
    backend = SwitchingBackend(old)
    state = backend.new_session(hop_frames=HOP, seed=0)
    backend.run_hop([HopInput(state, *fake_hop(old))])
    backend.switch_to(better)
    (moving,) = backend.run_hop([HopInput(state, *fake_hop(old))])
    assert moving.crops[:, 0, 0, 2].tolist() == [40, 80, 120, 160]
    (moved,) = backend.run_hop([HopInput(state, *fake_hop(old))])
    assert (moved.crops[..., 2] == 200).all()
    assert old.batches == [1, 1] and better.batches == [1, 1]
    (fresh,) = better.sessions
    assert fresh.carried == 2 * HOP  # it began at the hop that was blended


def test_encoding_that_fails_on_trial_goes_back_too() -> None:
    class Blind(Loud):
        def encode(self, crops: U8, *, masked: bool) -> F32:
            raise RuntimeError("no")

    old = FakeBackend()
    backend = SwitchingBackend(old)
    state = backend.new_session(hop_frames=HOP, seed=0)
    backend.switch_to(Blind())
    assert len(backend.encode(np.zeros((1, 32, 32, 3), np.uint8), masked=True)) == 1
    backend.run_hop([HopInput(state, *fake_hop(old))])
    assert isinstance(old.sessions[0], FakeState) and old.sessions[0].carried == HOP
    assert backend.name == "fake" and backend.failure is not None


def test_blending_moves_warps_too() -> None:
    crops, warps = np.zeros((3, 2, 2, 3), np.uint8), np.zeros((3, 1, 2, 2), np.float32)
    made = blend(GeneratedHop(crops, warps), GeneratedHop(crops + 100, warps + 4))
    assert made.warps is not None
    assert made.warps[:, 0, 0, 0].tolist() == [1, 2, 3]
    assert made.crops[:, 0, 0, 0].tolist() == [25, 50, 75]


def test_a_backend_that_runs_another_model_is_refused(backends: dict[str, Backend]) -> None:
    backend = SwitchingBackend(backends["onnxruntime"])
    with pytest.raises(BackendError, match="expected a backend that runs tiny-random"):
        backend.switch_to(FakeBackend())
    backend.switch_to(backends["openvino"])
    with pytest.raises(BackendError, match="expected the switch to openvino-f32 to be over"):
        backend.switch_to(backends["torch"])
    with pytest.raises(StreamError, match="expected a session of this openvino-f32 backend"):
        backend.run_hop([HopInput(FakeState(HOP, 0), *hops_of(backend, 0, 1).__next__())])
