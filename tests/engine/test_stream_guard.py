"""A stream of a model whose audio window has a guard, a tail and a running floor."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from engine.avatar import AvatarSource
from engine.media import F32, FRAME_SAMPLES, RenderedFrame
from engine.scheduler import Scheduler
from engine.stream import Stream, StreamOptions
from engine.windows import frames_of
from tests.fakes import FAKE_SPEC, FakeBackend, fake_avatar, speech

AUDIO = replace(
    FAKE_SPEC.audio, guard=2, tail=1, table_positions=40, floor="running", log_floor=-8.0
)
HOP = 4


def _stream() -> Stream:
    backend = FakeBackend(replace(FAKE_SPEC, audio=AUDIO))
    options = StreamOptions(hop_frames=HOP, realtime=False)
    return Stream(backend, AvatarSource(fake_avatar()), options)


def _finished(stream: Stream) -> list[RenderedFrame]:
    scheduler = Scheduler(stream.backend)
    scheduler.add(stream)
    frames: list[RenderedFrame] = []
    while outputs := scheduler.run_due():
        for output in outputs:
            assert output.error is None, output.error
            frames += output.frames
    return frames


def _pictures(samples: F32, cuts: list[int]) -> list[bytes]:
    stream = _stream()
    frames: list[RenderedFrame] = []
    for piece in np.split(samples, cuts):
        stream.push_audio(piece)
        frames += _finished(stream)
    stream.flush()
    frames += _finished(stream)
    assert [frame.index for frame in frames] == list(range(frames_of(len(samples))))
    return [frame.picture.i420.tobytes() for frame in frames]


def test_a_hop_is_due_once_its_guard_has_arrived() -> None:
    stream = _stream()
    stream.push_audio(speech(10)[: HOP * FRAME_SAMPLES + 1320 + 2 * 320 - 1])
    assert stream.due() is None
    stream.push_audio(np.zeros(1, np.float32))
    plan = stream.due()
    assert plan is not None and plan.new == range(HOP)


@pytest.mark.parametrize("seed", range(3))
def test_guarded_stream_chunked_equals_whole(seed: int) -> None:
    samples = speech(31, range(9, 20))[:-123]
    cuts = sorted(np.random.default_rng(seed).integers(0, len(samples), 30).tolist())
    assert _pictures(samples, cuts) == _pictures(samples, [])


def test_speech_after_an_interrupt_is_heard_as_if_it_were_the_first() -> None:
    loud, quiet = speech(12), 0.02 * speech(12)
    after, fresh = _stream(), _stream()
    after.push_audio(loud)
    _finished(after)
    after.interrupt(1)
    begun = after.state.next_frame
    kept = after.position_samples - begun * FRAME_SAMPLES
    after.push_audio(quiet, 1)
    fresh.push_audio(np.zeros(kept, np.float32))
    fresh.push_audio(quiet)
    frames = range(6)
    assert np.array_equal(
        after.state.features.windows(range(begun, begun + 6)), fresh.state.features.windows(frames)
    )
