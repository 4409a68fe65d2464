"""Due hops of many streams share one call, and a bad stream fails alone."""

from __future__ import annotations

import pytest

from engine.avatar import AvatarSource
from engine.errors import StreamError
from engine.media import RenderedFrame
from engine.pipeline import SourceFrame
from engine.scheduler import Scheduler
from engine.stream import Stream, StreamOptions
from tests.fakes import FakeBackend, FakeCamera, fake_avatar, speech


def _streams(backend: FakeBackend, count: int, hop: int = 4) -> list[Stream]:
    options = StreamOptions(hop_frames=hop, realtime=False)
    return [Stream(backend, AvatarSource(fake_avatar()), options) for _ in range(count)]


def _all(scheduler: Scheduler) -> dict[int, list[RenderedFrame]]:
    frames: dict[int, list[RenderedFrame]] = {}
    while outputs := scheduler.run_due():
        for output in outputs:
            assert output.error is None
            frames.setdefault(id(output.stream), []).extend(output.frames)
    return frames


def test_equal_hops_of_many_streams_run_in_one_call() -> None:
    backend = FakeBackend()
    scheduler = Scheduler(backend)
    streams = _streams(backend, 3)
    for stream in streams:
        scheduler.add(stream)
        stream.push_audio(speech(10))
    frames = _all(scheduler)
    assert backend.batches == [3]
    assert all(len(frames[id(stream)]) == 4 for stream in streams)


def test_a_batch_holds_no_more_hops_than_allowed_and_the_most_overdue_first() -> None:
    backend = FakeBackend()
    scheduler = Scheduler(backend, max_batch=2)
    streams = _streams(backend, 3)
    for stream, frames in zip(streams, (7, 12, 9), strict=True):
        scheduler.add(stream)
        stream.push_audio(speech(frames))
    first = scheduler.run_due()
    assert backend.batches == [2]
    assert {id(output.stream) for output in first} == {id(streams[1]), id(streams[2])}


def test_the_hop_whose_next_one_is_due_soonest_goes_first() -> None:
    backend = FakeBackend()
    scheduler = Scheduler(backend)
    long, short = _streams(backend, 1, hop=8)[0], _streams(backend, 1, hop=2)[0]
    for stream, frames in ((long, 14), (short, 6)):  # overdue by 3 frames and by 1
        scheduler.add(stream)
        stream.push_audio(speech(frames))
    assert [output.stream for output in scheduler.run_due()] == [short]
    assert [output.stream for output in scheduler.run_due()] == [long]


def test_hops_of_different_lengths_run_in_calls_of_their_own() -> None:
    backend = FakeBackend()
    scheduler = Scheduler(backend)
    for stream in (*_streams(backend, 2, hop=4), *_streams(backend, 1, hop=2)):
        scheduler.add(stream)
        stream.push_audio(speech(7))
    _all(scheduler)
    assert sorted(backend.batches) == [1, 1, 2]


def test_a_batch_gives_what_each_stream_gives_alone() -> None:
    alone_backend, shared_backend = FakeBackend(), FakeBackend()
    alone = []
    for seed in range(3):
        scheduler = Scheduler(alone_backend)
        stream = _streams(alone_backend, 1)[0]
        scheduler.add(stream)
        stream.push_audio(speech(20, seed=seed))
        stream.flush()
        alone.append(_all(scheduler)[id(stream)])
    shared = Scheduler(shared_backend)
    streams = _streams(shared_backend, 3)
    for seed, stream in enumerate(streams):
        shared.add(stream)
        stream.push_audio(speech(20, seed=seed))
        stream.flush()
    together = _all(shared)
    for expected, stream in zip(alone, streams, strict=True):
        for one, other in zip(together[id(stream)], expected, strict=True):
            assert (one.picture.i420 == other.picture.i420).all()


def test_crops_of_all_cameras_are_encoded_in_one_call() -> None:
    backend = FakeBackend()
    scheduler = Scheduler(backend)
    for _ in range(3):
        camera = FakeCamera(4, [True] * 4)
        options = StreamOptions(hop_frames=4, realtime=False)
        stream = Stream(backend, camera, options)
        stream.push_audio(speech(7))
        scheduler.add(stream)
    _all(scheduler)
    assert backend.encoded == [12, 12]  # masked and whole, the crops of all three at once


def test_a_stream_that_fails_ends_alone() -> None:
    backend = FakeBackend()
    scheduler = Scheduler(backend)
    streams = _streams(backend, 3)
    for stream in streams:
        scheduler.add(stream)
        stream.push_audio(speech(11))
    assert len(scheduler.run_due()) == 3
    backend.refused = backend.sessions[1]
    outputs = scheduler.run_due()
    failed = [output for output in outputs if output.error is not None]
    assert [output.stream for output in failed] == [streams[1]]
    assert "refused" in str(failed[0].error)
    assert sum(len(output.frames) == 4 for output in outputs) == 2
    # The failed call may have written half of what they carry: they start from nothing.
    assert [session.resets for session in backend.sessions] == [1, 1, 1]
    assert [session.carried for session in backend.sessions] == [4, 0, 4]
    for stream in streams:
        if stream is not streams[1]:
            stream.push_audio(speech(4))
    assert len(scheduler.run_due()) == 2


class _BrokenCamera(FakeCamera):
    def take(self, frames: range) -> list[SourceFrame]:
        raise RuntimeError("the camera is broken")


def test_a_source_that_fails_ends_its_stream_alone() -> None:
    backend = FakeBackend()
    scheduler = Scheduler(backend)
    good = _streams(backend, 1)[0]
    options = StreamOptions(hop_frames=4, realtime=False)
    bad = Stream(backend, _BrokenCamera(50, [True]), options)
    for stream in (good, bad):
        scheduler.add(stream)
        stream.push_audio(speech(7))
    outputs = {id(output.stream): output for output in scheduler.run_due()}
    assert str(outputs[id(bad)].error) == "the camera is broken"
    assert len(outputs[id(good)].frames) == 4


def test_a_removed_stream_is_not_run() -> None:
    backend = FakeBackend()
    scheduler = Scheduler(backend)
    stream = _streams(backend, 1)[0]
    scheduler.add(stream)
    stream.push_audio(speech(10))
    scheduler.remove(stream)
    assert scheduler.run_due() == []


def test_streams_and_scheduler_share_one_backend() -> None:
    with pytest.raises(StreamError, match="own backend"):
        Scheduler(FakeBackend()).add(_streams(FakeBackend(), 1)[0])
