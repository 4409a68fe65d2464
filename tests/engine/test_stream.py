"""A stream gives every frame once, in order, with the mouth of its own sound."""

from __future__ import annotations

import numpy as np
import pytest

from engine.avatar import AvatarSource
from engine.errors import AudioFormatError, ConfigError, StreamClosed, StreamError
from engine.media import F32, FRAME_SAMPLES, RenderedFrame
from engine.scheduler import Scheduler
from engine.stream import Stream, StreamOptions
from engine.windows import frames_of
from tests.fakes import (
    FAKE_SPEC,
    FakeBackend,
    FakeCamera,
    fake_avatar,
    grey_picture,
    speech,
)

LOOKAHEAD = FAKE_SPEC.audio.lookahead_samples


def _avatar_stream(backend: FakeBackend, hop: int = 4, *, realtime: bool = False) -> Stream:
    options = StreamOptions(hop_frames=hop, realtime=realtime)
    return Stream(backend, AvatarSource(fake_avatar()), options)


def _camera_stream(backend: FakeBackend, camera: FakeCamera, hop: int = 4) -> Stream:
    options = StreamOptions(hop_frames=hop, realtime=False)
    return Stream(backend, camera, options)


def _run(stream: Stream) -> list[RenderedFrame]:
    scheduler = Scheduler(stream.backend)
    scheduler.add(stream)
    frames: list[RenderedFrame] = []
    while outputs := scheduler.run_due():
        for output in outputs:
            assert output.error is None, output.error
            frames += output.frames
    return frames


def _whole(stream: Stream, samples: F32) -> list[RenderedFrame]:
    stream.push_audio(samples)
    stream.flush()
    return _run(stream)


def _assert_unbroken(frames: list[RenderedFrame], first: int = 0) -> None:
    assert [frame.index for frame in frames] == list(range(first, first + len(frames)))
    assert [frame.start_sample for frame in frames] == [
        frame.index * FRAME_SAMPLES for frame in frames
    ]


@pytest.mark.parametrize("hop", [1, 2, 4, 8])
@pytest.mark.parametrize("samples", [1, 639, 640, 641, 20 * 640, 21 * 640 + 77])
def test_every_started_frame_comes_once_and_in_order(hop: int, samples: int) -> None:
    stream = _avatar_stream(FakeBackend(), hop)
    frames = _whole(stream, speech(22)[:samples])
    _assert_unbroken(frames)
    assert len(frames) == frames_of(samples)
    assert stream.done


@pytest.mark.parametrize("hop", [1, 2, 4, 8])
def test_stream_chunked_equals_whole(hop: int) -> None:
    samples = speech(61, range(9, 30))[:-123]
    whole = _whole(_avatar_stream(FakeBackend(), hop), samples)
    random = np.random.default_rng(hop)
    for _ in range(3):
        stream = _avatar_stream(FakeBackend(), hop)
        frames: list[RenderedFrame] = []
        for piece in np.split(samples, np.sort(random.integers(0, len(samples), 40))):
            stream.push_audio(piece)
            frames += _run(stream)
        stream.flush()
        frames += _run(stream)
        assert [frame.synced for frame in frames] == [frame.synced for frame in whole]
        for one, other in zip(frames, whole, strict=True):
            assert np.array_equal(one.picture.i420, other.picture.i420)


def test_a_hop_is_due_when_its_look_ahead_has_arrived_and_not_before() -> None:
    stream = _avatar_stream(FakeBackend())
    samples = speech(10)
    stream.push_audio(samples[: 4 * FRAME_SAMPLES + LOOKAHEAD - 1])
    assert stream.due() is None
    stream.push_audio(samples[:1])
    plan = stream.due()
    assert plan is not None
    assert plan.new == range(4)
    assert len(_run(stream)) == 4


def test_hops_change_their_length_between_two_hops_and_no_frame_is_lost() -> None:
    backend = FakeBackend()
    stream = _avatar_stream(backend, 4)
    stream.push_audio(speech(11)[: 8 * FRAME_SAMPLES + LOOKAHEAD])
    frames = _run(stream)
    assert len(frames) == 8
    stream.change_hop(1)
    stream.push_audio(speech(3))
    frames += _run(stream)
    assert len(frames) == 11
    stream.change_hop(4)
    stream.push_audio(speech(3))
    assert _run(stream) == []
    stream.push_audio(speech(1))
    frames += _run(stream)
    _assert_unbroken(frames)
    assert len(frames) == 15
    # Sessions of this backend cannot be taken over, so that each length has one of its own.
    assert [session.carried for session in backend.sessions] == [8, 3, 4]


def test_silence_runs_no_network_and_shows_the_clip() -> None:
    backend = FakeBackend()
    stream = _avatar_stream(backend)
    frames = _whole(stream, np.zeros(40 * FRAME_SAMPLES, np.float32))
    assert backend.batches == []
    assert len(frames) == 40
    for frame in frames:
        assert frame.synced == 0.0
        assert (frame.picture.i420 == 100 + frame.index % 10).all()


def test_the_mouth_is_there_at_the_onset_and_rests_after_speech() -> None:
    backend = FakeBackend()
    frames = _whole(_avatar_stream(backend), speech(80, range(30, 40)))
    synced = [frame.synced for frame in frames]
    assert not any(synced[:26])
    assert synced[30:40] == [1.0] * 10
    assert not any(synced[56:])
    assert len(backend.batches) < 10
    # The speech after a rest starts with an empty context.
    assert backend.sessions[0].resets == 0


def test_the_context_of_speech_before_a_rest_is_forgotten() -> None:
    backend = FakeBackend()
    samples = speech(100, range(10, 20)) + speech(100, range(70, 80))
    _whole(_avatar_stream(backend), samples)
    assert backend.sessions[0].resets == 1


def test_an_interrupt_of_queued_speech_rests_within_two_frames() -> None:
    backend = FakeBackend()
    stream = _avatar_stream(backend)
    stream.push_audio(speech(12), generation=1)
    before = _run(stream)
    assert before[-1].synced == 1.0
    stream.push_audio(speech(50), generation=1)  # queued, not yet rendered
    stream.interrupt(2)
    position = stream.position_samples
    assert position == (len(before) + 2) * FRAME_SAMPLES
    after = _run(stream)
    assert [round(frame.synced, 3) for frame in after] == [0.5, 0.0]
    assert {frame.generation for frame in after} == {2}
    stream.push_audio(np.zeros(20 * FRAME_SAMPLES, np.float32), generation=2)
    stream.flush()
    after += _run(stream)
    assert not any(frame.synced for frame in after[1:])
    _assert_unbroken(before + after)


def test_an_interrupt_in_real_time_does_not_move_the_timeline() -> None:
    stream = _avatar_stream(FakeBackend(), realtime=True)
    stream.push_audio(speech(12)[:-100])
    before = _run(stream)
    position = stream.position_samples
    stream.interrupt(1)
    assert stream.position_samples == position
    after = _run(stream)
    _assert_unbroken(before + after)
    assert len(before + after) == position // FRAME_SAMPLES
    assert not any(frame.synced for frame in after), "its player shows the way to rest"
    stream.push_audio(speech(10), generation=1)
    assert [frame.generation for frame in _run(stream)] == [1] * 8


def test_older_generations_are_dropped_on_arrival_and_newer_ones_interrupt() -> None:
    stream = _avatar_stream(FakeBackend())
    stream.push_audio(speech(3), generation=1)
    stream.push_audio(speech(3), generation=0)
    assert stream.position_samples == 3 * FRAME_SAMPLES
    stream.push_audio(speech(3), generation=2)
    assert stream.state.generation == 2
    assert stream.position_samples == 5 * FRAME_SAMPLES


def test_late_hops_are_dropped_whole_and_the_carry_is_reset() -> None:
    backend = FakeBackend()
    stream = _avatar_stream(backend, realtime=True)
    stream.push_audio(speech(12))
    frames = _run(stream)
    stream.push_audio(speech(40))
    frames += _run(stream)
    assert stream.state.late_hops == 9
    assert [frame.synced for frame in frames[8 : 8 + 36]] == [0.0] * 36
    assert backend.sessions[0].resets == 1
    _assert_unbroken(frames)


def test_a_hop_that_would_be_late_when_it_is_done_is_dropped_before() -> None:
    stream = _avatar_stream(FakeBackend(), realtime=True)
    stream.push_audio(speech(12))
    limit = stream.options.late_limit_samples
    plan = stream.due_in_time(limit - 12 * FRAME_SAMPLES)
    assert plan is not None and stream.state.late_hops == 0
    plan = stream.due_in_time(limit)
    assert plan is None and stream.state.late_hops == 2
    frames = stream.collect()
    assert [frame.synced for frame in frames] == [0.0] * 8
    _assert_unbroken(frames)


def test_offline_nothing_is_dropped() -> None:
    stream = _avatar_stream(FakeBackend())
    frames = _whole(stream, speech(100))
    assert stream.state.late_hops == 0
    assert [frame.synced for frame in frames[3:]] == [1.0] * 97


def test_frames_without_a_face_pass_through_and_the_mouth_fades() -> None:
    faces = [True] * 12 + [False] * 12 + [True] * 12
    backend = FakeBackend()
    stream = _camera_stream(backend, FakeCamera(36, faces))
    frames = _whole(stream, speech(36))
    synced = [round(frame.synced, 2) for frame in frames]
    assert synced[:4] == [0.33, 0.67, 1.0, 1.0]
    assert synced[11:16] == [1.0, 0.67, 0.33, 0.0, 0.0]
    assert synced[23:28] == [0.0, 0.33, 0.67, 1.0, 1.0]
    for frame in frames[14:24]:
        assert (frame.picture.i420 == 100).all()
    assert len(backend.sessions) == 1
    assert backend.sessions[0].resets == 1


def test_a_cut_enrols_the_new_face() -> None:
    backend = FakeBackend()
    stream = _camera_stream(backend, FakeCamera(24, [True] * 24, cuts=[0, 10]))
    frames = _whole(stream, speech(24))
    assert len(backend.sessions) == 2
    synced = [round(frame.synced, 2) for frame in frames]
    assert synced[7:14] == [1.0, 0.0, 0.0, 0.33, 0.67, 1.0, 1.0]


def test_a_camera_stream_starts_with_its_first_picture() -> None:
    camera = FakeCamera(1000, [True] * 1000)
    camera.first = None
    stream = _camera_stream(FakeBackend(), camera)
    for _ in range(100):
        stream.push_audio(speech(1))
    assert _run(stream) == []
    assert stream.state.features.buffered_frames < 200
    camera.first = 98
    stream.push_audio(speech(10))
    _assert_unbroken(_run(stream), first=98)


def test_silence_still_runs_the_network_where_the_source_has_no_resting_mouth() -> None:
    backend = FakeBackend()
    frames = _whole(
        _camera_stream(backend, FakeCamera(20, [True] * 20)),
        np.zeros(20 * FRAME_SAMPLES, np.float32),
    )
    assert len(backend.batches) == 5
    assert frames[-1].synced == 1.0


def test_memory_is_bounded_over_a_long_stream() -> None:
    stream = _avatar_stream(FakeBackend())
    scheduler = Scheduler(stream.backend)
    scheduler.add(stream)
    for second in range(60):
        stream.push_audio(speech(25, seed=second))
        while scheduler.run_due():
            pass
        assert stream.state.features.buffered_frames < 200
        assert stream.queued_samples < 8 * FRAME_SAMPLES


def test_what_cannot_be_used_is_refused_with_a_sentence() -> None:
    stream = _avatar_stream(FakeBackend())
    with pytest.raises(AudioFormatError, match="expected float32"):
        stream.push_audio(np.zeros(10))  # type: ignore[arg-type]
    with pytest.raises(AudioFormatError, match="finite"):
        stream.push_audio(np.array([np.nan], np.float32))
    with pytest.raises(StreamError, match="sound only"):
        stream.push_video(grey_picture(0), 0)
    with pytest.raises(StreamError, match="to wait"):
        for _ in range(100):
            stream.push_audio(speech(25))
    stream.flush()
    with pytest.raises(StreamClosed):
        stream.push_audio(speech(1))
    with pytest.raises(StreamClosed):
        stream.push_video(grey_picture(0), 0)
    with pytest.raises(ConfigError, match="1 to 16 frames"):
        _avatar_stream(FakeBackend(), hop=17)


def test_a_hop_that_the_window_cannot_hold_is_refused_and_the_stream_goes_on() -> None:
    stream = _avatar_stream(FakeBackend(), 4)
    with pytest.raises(ConfigError, match="1 to 16 frames, got 17"):
        stream.change_hop(17)
    _assert_unbroken(_whole(stream, speech(8)))


def test_an_empty_stream_ends_without_frames() -> None:
    stream = _avatar_stream(FakeBackend())
    stream.flush()
    assert _run(stream) == []
    assert stream.done
