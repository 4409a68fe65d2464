"""The engine proper behind the seam, with a tiny model of random weights."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from engine.errors import AvatarError, BackendError, ConfigError
from engine.media import FRAME_SAMPLES, Picture, RenderedFrame
from server.engine_link.messages import EngineSettings, Mode, OpenSession
from server.engine_process.hop_length import HopLength
from server.engine_process.streams import StreamsCore
from tests.server_fakes import make_avatar


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory, tiny_onnx_model: Path) -> EngineSettings:
    root = tmp_path_factory.mktemp("avatars")
    make_avatar(root, frames=25)
    return EngineSettings(
        core="server.engine_process.streams:StreamsCore",
        model=str(tiny_onnx_model),
        backend="onnxruntime",
        hop_frames=4,
        avatar_dirs=(root,),
    )


@pytest.fixture(scope="module")
def core(settings: EngineSettings) -> StreamsCore:
    return StreamsCore(settings)


def _open(core: StreamsCore, session: str, mode: Mode, avatar: str | None = None) -> None:
    core.open(OpenSession(session, mode, avatar, "", 0, 0, 0, 0, 0, seed=0))


def _speech(frames: int) -> np.ndarray:
    noise = np.random.default_rng(0).standard_normal(frames * FRAME_SAMPLES)
    return (noise * 0.1).astype(np.float32)


def _drain(core: StreamsCore, session: str) -> list[RenderedFrame]:
    frames: list[RenderedFrame] = []
    while results := core.step():
        for result in results:
            assert result.error is None
            if result.session == session:
                frames.extend(result.frames)
    return frames


def test_the_description_comes_after_a_warm_up(core: StreamsCore) -> None:
    ready = core.describe()
    assert ready.model == "tiny-random" and ready.backend.startswith("onnxruntime")
    assert (ready.resolution, ready.hop_frames, ready.lookahead_samples) == (32, 4, 1320)
    assert ready.hop_ms > 0


def test_speech_gives_synced_frames_in_order(core: StreamsCore) -> None:
    _open(core, "a", "avatar", "ada")
    core.push_audio("a", _speech(16), 0)
    frames = _drain(core, "a")
    core.close("a")
    assert [frame.index for frame in frames] == list(range(12))
    assert frames[-1].synced == 1.0
    assert (frames[0].picture.width, frames[0].picture.height) == (64, 48)


def test_an_avatar_that_came_later_is_prepared_while_others_speak(
    core: StreamsCore, settings: EngineSettings
) -> None:
    make_avatar(settings.avatar_dirs[0], "late", frames=9)
    request = OpenSession("late", "avatar", "late", "", 0, 0, 0, 0, 0, seed=0)
    _open(core, "a", "avatar", "ada")
    frames = []
    while not core.can_open(request):
        core.push_audio("a", _speech(4), 0)
        frames += _drain(core, "a")
        core.prepare()
    assert [frame.index for frame in frames] == list(range(len(frames))) and frames
    core.open(request)
    core.push_audio("late", _speech(8), 0)
    assert _drain(core, "late")
    for name in ("a", "late"):
        core.close(name)


def test_sessions_are_served_in_turn_and_close_alone(core: StreamsCore) -> None:
    _open(core, "a", "avatar", "ada")
    _open(core, "b", "avatar", "ada")
    for name in ("a", "b"):
        core.push_audio(name, _speech(7), 0)
    # This backend runs one hop a call, so that the first need not wait for the second.
    served = [result.session for _ in range(2) for result in core.step()]
    assert sorted(served) == ["a", "b"]
    core.close("a")
    core.push_audio("b", _speech(8), 0)
    assert {result.session for result in core.step()} == {"b"}
    core.close("b")
    core.close("b")
    assert core.step() == []


def test_an_interrupt_finishes_what_has_arrived_at_rest(core: StreamsCore) -> None:
    _open(core, "a", "avatar", "ada")
    core.push_audio("a", _speech(16), 0)
    given = _drain(core, "a")
    rest = core.interrupt("a", 1)
    # All whole frames of the sound that has arrived and was not rendered.
    assert [frame.index for frame in rest] == list(range(given[-1].index + 1, 16))
    assert {frame.generation for frame in rest} == {1}
    assert not any(frame.synced for frame in rest)
    core.push_audio("a", np.zeros(8 * FRAME_SAMPLES, np.float32), 1)
    after = _drain(core, "a")
    core.close("a")
    assert after[0].index == 16
    assert all(frame.generation == 1 for frame in after)
    assert all(frame.synced == 0.0 for frame in after)


def test_a_camera_without_a_face_passes_through(core: StreamsCore) -> None:
    _open(core, "a", "live")
    picture = Picture(np.full((72, 64), 90, np.uint8))
    for index in range(8):
        core.push_video("a", picture, index * FRAME_SAMPLES)
    core.push_audio("a", _speech(8), 0)
    frames = _drain(core, "a")
    core.close("a")
    assert len(frames) >= 4
    assert all(np.array_equal(frame.picture.i420, picture.i420) for frame in frames)
    assert all(frame.synced == 0.0 for frame in frames)


def test_frames_without_a_mouth_are_reported_once_with_their_reason(core: StreamsCore) -> None:
    _open(core, "a", "live")
    picture = Picture(np.full((72, 64), 90, np.uint8))
    for index in range(16):
        core.push_video("a", picture, index * FRAME_SAMPLES)
    counted, frames = 0, 0
    for _ in range(2):
        core.push_audio("a", _speech(8), 0)
        while results := core.step():
            for result in results:
                assert set(result.closed_frames) <= {"no_face", "cut"}
                counted += sum(result.closed_frames.values())
                frames += len(result.frames)
    core.close("a")
    assert counted == frames >= 12


def test_a_late_session_reports_its_dropped_hops(core: StreamsCore) -> None:
    _open(core, "a", "avatar", "ada")
    core.push_audio("a", _speech(60), 0)
    results = core.step()
    core.close("a")
    assert sum(result.late_hops for result in results) > 0


def test_one_call_gets_the_shortest_hops_and_each_further_one_longer_ones(
    settings: EngineSettings,
) -> None:
    core = StreamsCore(dataclasses.replace(settings, hop_frames=None))
    ready = core.describe()
    assert (ready.hop_frames, set(ready.shorter_hops_ms)) == (4, {1, 2})
    assert ready.shortest_hop[0] == 1
    core._hop_length = HopLength({1: 20.0, 2: 30.0, 4: 40.0})
    _open(core, "a", "avatar", "ada")
    core.push_audio("a", _speech(7), 0)
    first = core.step()
    assert [len(result.frames) for result in first] == [1]
    assert [result.next_hop_frames for result in first] == [1]
    _open(core, "b", "avatar", "ada")
    core._sessions["a"].lengthen_by = 0.0  # its mouth has had its time to pause
    (told,) = core.step()
    assert (len(told.frames), told.next_hop_frames) == (1, 4)
    core.push_audio("a", _speech(6), 0)
    core.push_audio("b", _speech(7), 0)
    lengths: set[tuple[str, int]] = set()
    while results := core.step():
        lengths |= {(result.session, len(result.frames)) for result in results}
    assert lengths == {("a", 4), ("b", 4)}
    for name in ("a", "b"):
        core.close(name)


def test_calls_lengthen_their_hops_in_a_pause_but_at_once_where_a_newcomer_waits(
    settings: EngineSettings,
) -> None:
    core = StreamsCore(dataclasses.replace(settings, hop_frames=None))
    core.describe()
    core._hop_length = HopLength({1: 20.0, 2: 30.0, 4: 40.0})
    _open(core, "a", "avatar", "ada")
    core.push_audio("a", _speech(4), 0)
    (first,) = core.step()
    _open(core, "b", "avatar", "ada")
    core.push_audio("a", _speech(1), 0)
    (alone,) = core.step()
    assert (first.next_hop_frames, alone.next_hop_frames) == (1, 1), "its mouth speaks, none waits"
    core.push_audio("b", _speech(8), 0)
    core.push_audio("a", _speech(1), 0)
    (pressed,) = core.step()
    assert (pressed.session, pressed.next_hop_frames) == ("a", 4)
    for name in ("a", "b"):
        core.close(name)


def test_hops_of_a_set_length_stay(core: StreamsCore) -> None:
    ready = core.describe()
    assert (ready.hop_frames, ready.shorter_hops_ms) == (4, {})
    assert ready.shortest_hop == (4, ready.hop_ms)


def test_what_cannot_be_opened_is_refused(settings: EngineSettings, core: StreamsCore) -> None:
    with pytest.raises(AvatarError, match="eve"):
        _open(core, "x", "avatar", "eve")
    model, avatars = settings.model, settings.avatar_dirs
    with pytest.raises(ConfigError, match="hop_frames"):
        StreamsCore(EngineSettings("", model, "onnxruntime", 99, avatars))
    with pytest.raises(BackendError, match="expected a backend"):
        StreamsCore(EngineSettings("", model, "abacus", None, avatars))
    nowhere = str(Path(model).parent / "nowhere")
    with pytest.raises(Exception, match="nowhere"):
        StreamsCore(EngineSettings("", nowhere, "onnxruntime", None, avatars))
