"""Whatever happens before the camera, every frame comes once, in order, and no mouth jumps."""

from __future__ import annotations

from typing import Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.avatar import AvatarSource
from engine.face.paste_back import SHADE_OTHER
from engine.gate import FADE_FRAMES, FaceClosed
from engine.media import FRAME_SAMPLES, RenderedFrame
from engine.scheduler import Scheduler
from engine.stream import Stream, StreamOptions
from tests.fakes import FakeBackend, FakeCamera, fake_avatar, speech

Event = Literal["face", "profile", "occluded", "gone", "cut", "cut to nobody"]
EVENTS: tuple[Event, ...] = ("face", "profile", "occluded", "gone", "cut", "cut to nobody")

scripts = st.lists(st.tuples(st.sampled_from(EVENTS), st.integers(1, 9)), min_size=1, max_size=12)


def _camera(script: list[tuple[Event, int]]) -> FakeCamera:
    faces: list[bool] = []
    cuts: list[int] = []
    closed: dict[int, FaceClosed] = {}
    for event, length in script:
        first = len(faces)
        faces += [event not in ("gone", "cut to nobody")] * length
        if event in ("cut", "cut to nobody"):
            cuts.append(first)
        reason: FaceClosed | None = {
            "profile": "profile",
            "occluded": "occluded",
            "gone": "no_face",
            "cut to nobody": "cut",
        }.get(event)  # type: ignore[assignment]
        if reason is not None:
            closed.update(dict.fromkeys(range(first, len(faces)), reason))
    return FakeCamera(len(faces), faces, cuts, closed)


def _run(stream: Stream, scheduler: Scheduler) -> list[RenderedFrame]:
    frames: list[RenderedFrame] = []
    while outputs := scheduler.run_due():
        for output in outputs:
            assert output.error is None
            frames += output.frames
    return frames


@settings(max_examples=60, deadline=None)
@given(
    script=scripts,
    hop=st.integers(1, 5),
    pieces=st.lists(st.integers(1, 4000), min_size=1, max_size=6),
    interrupts=st.sets(st.integers(0, 12), max_size=3),
    realtime=st.booleans(),
)
def test_any_script_of_events_gives_every_frame_once_and_in_order(
    script: list[tuple[Event, int]],
    hop: int,
    pieces: list[int],
    interrupts: set[int],
    realtime: bool,
) -> None:
    camera = _camera(script)
    count = camera.frames
    backend = FakeBackend()
    stream = Stream(backend, camera, StreamOptions(hop_frames=hop, realtime=realtime))
    scheduler = Scheduler(backend)
    scheduler.add(stream)
    sound, at, generation = speech(count), 0, 0
    frames: list[RenderedFrame] = []
    while at < len(sound):
        piece = pieces[generation % len(pieces)]
        generation += 1
        if generation in interrupts:
            stream.interrupt(generation)
        stream.push_audio(sound[at : at + piece], stream.state.generation)
        at += piece
        frames += _run(stream, scheduler)
    stream.flush()
    frames += _run(stream, scheduler)
    assert [frame.index for frame in frames] == list(range(count))
    assert [frame.start_sample for frame in frames] == [
        FRAME_SAMPLES * index for index in range(count)
    ]
    assert stream.done
    if stream.state.late_hops == 0:
        _mouths_move_by_steps([frame.synced for frame in frames], camera)
        _reasons_add_up(stream, camera, hop)


def _mouths_move_by_steps(synced: list[float], camera: FakeCamera) -> None:
    step = 1.0 / FADE_FRAMES
    level = 0.0
    for index, share in enumerate(synced):
        if index in camera.cuts:
            level = 0.0
        assert share == 0.0 or abs(share - level) <= step + 1e-9
        level = share


def _reasons_add_up(stream: Stream, camera: FakeCamera, hop: int) -> None:
    """Frames that a cut follows in their own hop are the cut's; all others keep their reason."""
    wanted = {reason: 0 for reason in ("profile", "occluded", "no_face")}
    count = len(camera.faces)
    hops = -(-count // hop) * hop
    for index in range(hops):
        end = (index // hop + 1) * hop
        shown = min(index, count - 1)
        cut_follows = any(index < cut < end for cut in camera.cuts)
        reason = camera.closed.get(shown)
        if reason in wanted and not cut_follows:
            wanted[reason] += 1
    counted = stream.state.closed_frames
    assert {reason: counted[reason] for reason in wanted} == wanted  # type: ignore[index]


@pytest.mark.parametrize("reason", ["profile", "occluded"])
def test_a_mouth_fades_out_where_the_face_is_and_back_when_it_is_seen_again(
    reason: FaceClosed,
) -> None:
    closed = dict.fromkeys(range(12, 24), reason)
    backend = FakeBackend()
    camera = FakeCamera(40, [True] * 40, [0], closed)
    stream = Stream(backend, camera, StreamOptions(hop_frames=4, realtime=False))
    scheduler = Scheduler(backend)
    scheduler.add(stream)
    stream.push_audio(speech(40))
    stream.flush()
    frames = _run(stream, scheduler)
    synced = [round(frame.synced * FADE_FRAMES) for frame in frames]
    assert synced[8:20] == [3, 3, 3, 3, 2, 1, 0, 0, 0, 0, 0, 0]
    assert synced[22:30] == [0, 0, 1, 2, 3, 3, 3, 3]
    # While it fades, the mouth is painted where the face still is, ever fainter.
    plain = camera.take(range(1))[0].picture.i420.astype(int)
    change = [int(np.abs(frames[index].picture.i420 - plain).max()) for index in range(11, 16)]
    assert change[0] > SHADE_OTHER
    assert change[0] > change[1] > change[2] > change[3] == change[4] == 0
    assert stream.state.closed_frames[reason] == 12
    # What was carried before is not carried over.
    assert backend.sessions[0].resets >= 1


def test_another_person_gets_a_session_of_their_own() -> None:
    backend = FakeBackend()
    camera = FakeCamera(40, [True] * 40, [0, 20])
    stream = Stream(backend, camera, StreamOptions(hop_frames=4, realtime=False))
    scheduler = Scheduler(backend)
    scheduler.add(stream)
    stream.push_audio(speech(40))
    stream.flush()
    synced = [round(frame.synced * FADE_FRAMES) for frame in _run(stream, scheduler)]
    assert len(backend.sessions) == 2
    assert synced[18:24] == [3, 3, 1, 2, 3, 3]


def test_silence_is_a_reason_of_an_avatar_only() -> None:
    backend = FakeBackend()
    stream = Stream(backend, AvatarSource(fake_avatar()), StreamOptions(realtime=False))
    scheduler = Scheduler(backend)
    scheduler.add(stream)
    stream.push_audio(speech(60, loud=range(30, 40)))
    stream.flush()
    frames = _run(stream, scheduler)
    assert len(frames) == 60
    assert set(stream.state.closed_frames) == {"silence"}
    assert 20 < stream.state.closed_frames["silence"] < 45
