"""Playout with a clock of its own: release times, drops, delay, and an hour of drift."""

from __future__ import annotations

import random

import numpy as np
import pytest

from server.media.media_clock import FRAME_TICKS, SOUND_TICKS, TICK_HZ, TICKS_PER_MS
from server.media.playout import (
    LATE_TICKS,
    MARGIN_TICKS,
    WINDOW_BLOCKS,
    DelayControl,
    Playout,
    PlayoutFrame,
    SoundRelease,
    VideoMissing,
    VideoRelease,
)

MS = TICKS_PER_MS
READY = 300 * MS - MARGIN_TICKS  # readiness of a hop that keeps the delay at 300 ms


def playout(delay_ms: int = 300, ceiling_ms: int = 800) -> Playout[str]:
    return Playout(DelayControl(delay_ms * MS, ceiling_ms * MS))


def sound(blocks: int = 1, value: int = 1) -> np.ndarray:
    return np.full(blocks * SOUND_TICKS, value, np.int16)


def frame(index: int, generation: int = 0) -> PlayoutFrame[str]:
    return PlayoutFrame(index * FRAME_TICKS, generation, 1.0, f"picture {index}")


def test_sound_and_its_picture_leave_at_the_same_moment() -> None:
    queue = playout()
    queue.push_sound(sound(4), 20 * MS)
    queue.push_hop([frame(0), frame(1)], READY)
    assert queue.poll(300 * MS - 1) == []
    due = queue.poll(300 * MS)
    assert [type(item) for item in due] == [SoundRelease, VideoRelease]
    assert [item.pts for item in queue.poll(320 * MS) if isinstance(item, SoundRelease)] == [960]
    later = queue.poll(340 * MS)
    assert isinstance(later[0], SoundRelease) and later[0].pts == FRAME_TICKS
    assert isinstance(later[1], VideoRelease) and later[1].frame.pts == FRAME_TICKS


def test_the_sounds_base_is_its_quickest_block_of_the_last_ten_seconds() -> None:
    delay, rng, seen = DelayControl(0, 800 * MS), random.Random(1), []
    for number in range(3 * WINDOW_BLOCKS):
        seen.append(number // 4 + rng.randint(0, 50))  # a clock that drifts, with jitter
        delay.observe_sound(seen[-1])
        assert delay.sound_base == min(seen[-WINDOW_BLOCKS:])


def test_the_next_due_moment_is_when_something_is_released() -> None:
    queue = playout()
    queue.push_sound(sound(2), 20 * MS)
    queue.push_hop([frame(0)], READY)
    due = queue.next_due()
    assert queue.poll(due - 1) == []
    assert queue.poll(due) != []


def test_sound_is_released_whole_and_in_order_however_late_it_is_asked_for() -> None:
    queue = playout()
    samples = np.arange(50 * SOUND_TICKS, dtype=np.int16)
    for start in range(0, len(samples), 700):
        queue.push_sound(samples[start : start + 700], 20 * MS)
    blocks = [item for item in queue.poll(10 * TICK_HZ) if isinstance(item, SoundRelease)]
    assert np.array_equal(np.concatenate([block.samples for block in blocks]), samples)
    assert [block.pts for block in blocks] == [i * SOUND_TICKS for i in range(50)]


def test_a_picture_may_follow_its_sound_by_20_ms_and_no_more() -> None:
    queue = playout()
    queue.delay.observe_hop(-(10**6))  # the engine was quick before: one outlier moves nothing
    for _ in range(63):
        queue.delay.observe_hop(-(10**6))
    queue.push_hop([frame(0)], 300 * MS + LATE_TICKS)
    assert [type(item) for item in queue.poll(300 * MS + LATE_TICKS - 1)] == [VideoRelease]
    queue.push_hop([frame(1)], 340 * MS + LATE_TICKS + 1)
    assert queue.late_frames == 1
    assert queue.waiting_frames == 0


def _delay_about_to_rise() -> Playout[str]:
    """A queue at 180 ms: the sound of frames 0 to 2 left at 100, 140 and 180 ms."""
    queue = playout(delay_ms=100)
    queue.push_sound(sound(20), 20 * MS)
    queue.push_hop([frame(0)], 90 * MS)
    queue.poll(100 * MS)
    queue.poll(120 * MS)
    queue.poll(140 * MS)
    queue.push_hop([frame(1)], 159 * MS)
    queue.poll(160 * MS)
    queue.poll(180 * MS)
    return queue


def test_a_picture_whose_sound_has_left_does_not_wait_for_the_risen_delay() -> None:
    queue = _delay_about_to_rise()
    queue.push_hop([frame(2)], 199 * MS)
    assert queue.delay.offset > 120 * MS
    assert queue.next_due() <= 199 * MS
    shown = [item for item in queue.poll(199 * MS) if isinstance(item, VideoRelease)]
    assert [release.frame.picture for release in shown] == ["picture 2"]


def test_a_picture_20_ms_behind_its_sound_is_late_whatever_the_delay_is_now() -> None:
    queue = _delay_about_to_rise()
    queue.push_hop([frame(2)], 180 * MS + LATE_TICKS + 1)
    assert queue.delay.offset + 2 * FRAME_TICKS + LATE_TICKS > 201 * MS
    assert queue.late_frames == 1 and queue.waiting_frames == 0
    assert queue.poll(201 * MS) == [VideoMissing(2 * FRAME_TICKS)]


def test_a_picture_that_the_loop_was_too_busy_to_release_in_time_is_dropped() -> None:
    queue = _delay_about_to_rise()
    queue.push_hop([frame(2)], 190 * MS)
    due = queue.poll(180 * MS + LATE_TICKS + 1)
    assert [item for item in due if isinstance(item, VideoRelease)] == []
    assert queue.late_frames == 1


def test_a_missing_picture_is_reported_once_and_its_place_is_closed() -> None:
    queue = playout()
    queue.push_hop([frame(1)], READY + FRAME_TICKS)
    assert queue.poll(300 * MS + LATE_TICKS) == [VideoMissing(0)]
    assert queue.missing_frames == 1
    queue.push_hop([frame(0)], 300 * MS + LATE_TICKS)
    assert queue.late_frames == 1
    due = queue.poll(340 * MS)
    assert [item.frame.pts for item in due if isinstance(item, VideoRelease)] == [FRAME_TICKS]


def test_of_several_due_pictures_the_newest_is_shown() -> None:
    queue = playout()
    queue.push_hop([frame(0), frame(1), frame(2)], 200 * MS)
    due = queue.poll(300 * MS + 2 * FRAME_TICKS)
    assert [item.frame.picture for item in due if isinstance(item, VideoRelease)] == ["picture 2"]
    assert queue.stalled_frames == 2


def test_an_interrupt_drops_older_pictures_and_silences_waiting_sound() -> None:
    queue = playout()
    queue.push_sound(sound(10, value=1000), 20 * MS)
    queue.push_hop([frame(0), frame(1)], 200 * MS)
    queue.interrupt(1, 205 * MS)
    queue.push_hop([frame(2)], 210 * MS)  # made before the engine heard of it
    assert queue.waiting_frames == 0
    queue.push_hop([frame(0, 1), frame(1, 1)], 220 * MS)
    due = queue.poll(300 * MS)
    shown = [item.frame for item in due if isinstance(item, VideoRelease)]
    assert [(item.generation, item.picture) for item in shown] == [(1, "picture 0")]
    heard = next(item for item in due if isinstance(item, SoundRelease)).samples
    assert heard[0] == 1000 and abs(int(heard[239])) < 10 and not heard[240:].any()
    queue.push_sound(sound(1, value=7), 400 * MS)
    after = [item for item in queue.poll(10 * TICK_HZ) if isinstance(item, SoundRelease)]
    assert after[-1].samples[0] == 7


def test_rest_pictures_replace_those_of_the_same_place() -> None:
    queue = playout()
    queue.push_hop([frame(0), frame(1), frame(2)], 200 * MS)
    queue.push_hop([frame(1, 1), frame(2, 1)], 210 * MS)
    due = [queue.poll((300 + 40 * i) * MS) for i in range(3)]
    generations = [
        item.frame.generation for items in due for item in items if isinstance(item, VideoRelease)
    ]
    assert generations == [0, 1, 1]


def risen(delay: DelayControl) -> int:
    """The offset after seconds in which it may rise."""
    return [delay.advance(tick) for tick in range(0, 12 * TICK_HZ, SOUND_TICKS)][-1]


def test_the_delay_rises_with_a_slow_engine_in_steps_that_a_receiver_bridges() -> None:
    delay = DelayControl(100 * MS, 800 * MS)
    delay.observe_hop(900 * MS)
    assert delay.advance(0) == 100 * MS  # one hop, the very first, proves nothing
    delay.observe_hop(350 * MS)
    offsets = [delay.advance(tick) for tick in range(0, 2 * TICK_HZ, SOUND_TICKS)]
    assert offsets[0] == 160 * MS, "at once, but no more"
    assert np.diff(offsets).max() <= 60 * MS
    assert offsets[-1] == 350 * MS + MARGIN_TICKS
    reached = offsets.index(offsets[-1]) * SOUND_TICKS
    assert 1200 * MS <= reached <= 1300 * MS


def test_sound_goes_on_when_media_time_leaps_ahead_of_the_delay() -> None:
    queue = playout()
    for block in range(50):
        queue.push_sound(sound(), (block + 1) * 20 * MS)
        queue.push_hop([frame(block)], READY + block * FRAME_TICKS)
        queue.poll((block + 1) * 20 * MS)
    queue.push_sound(sound(8 * 50), 1020 * MS)  # silence that stood in for a starved client
    heard = 0
    for block in range(51, 151):
        now = (block + 1) * 20 * MS
        queue.push_sound(sound(), now)
        heard += sum(isinstance(item, SoundRelease) for item in queue.poll(now))
        base = queue.delay.sound_base
        assert base is not None
        if block > 80:  # a look at the sound's percentile every 16 blocks
            assert queue.delay.offset - base <= 800 * MS
    assert heard >= 100


def test_the_delay_falls_by_at_most_5_ms_a_second() -> None:
    delay = DelayControl(500 * MS, 800 * MS)
    delay.advance(0)
    delay.observe_hop(100 * MS)
    delay.observe_hop(100 * MS)
    before = delay.offset
    for tick in range(0, 10 * TICK_HZ, 137):
        now = delay.advance(tick)
        assert now <= before
        before = now
    assert 500 * MS - 50 * MS <= before <= 500 * MS - 45 * MS


def test_one_outlier_in_twenty_does_not_raise_the_delay() -> None:
    delay = DelayControl(0, 2000 * MS)
    for _ in range(63):
        delay.observe_hop(200 * MS)
    delay.observe_hop(900 * MS)
    assert risen(delay) == 200 * MS + MARGIN_TICKS


def test_the_delay_rises_before_longer_hops_come_so_that_no_picture_is_late() -> None:
    queue = Playout[str](DelayControl(135 * MS, 800 * MS, hop_frames=1))
    for index in range(8):
        queue.push_sound(sound(2), (index + 1) * FRAME_TICKS)
        queue.push_hop([frame(index)], 130 * MS + index * FRAME_TICKS)
        queue.poll(140 * MS + index * FRAME_TICKS)
    queue.delay.change_hop(4)
    assert queue.delay.offset == 255 * MS
    queue.push_sound(sound(8), 12 * FRAME_TICKS)
    for wait_ms in range(120):  # until the four are there no place is given up
        due = queue.poll((135 + wait_ms) * MS + 8 * FRAME_TICKS)
        assert not any(isinstance(item, VideoMissing) for item in due)
    queue.push_hop([frame(8 + i) for i in range(4)], 250 * MS + 8 * FRAME_TICKS)
    assert len(queue.poll(255 * MS + 8 * FRAME_TICKS)) == 2
    assert (queue.late_frames, queue.missing_frames) == (0, 0)


def test_shorter_hops_lower_the_delay_as_slowly_as_ever() -> None:
    delay = DelayControl(260 * MS, 800 * MS, hop_frames=4)
    delay.advance(0)
    for _ in range(20):
        delay.observe_hop(250 * MS)
    delay.change_hop(1)
    assert delay.offset == 260 * MS
    delay.observe_hop(130 * MS)  # as the long hops promised
    assert delay.advance(TICK_HZ) == 255 * MS
    assert delay.advance(60 * TICK_HZ) == 130 * MS + MARGIN_TICKS


def test_two_hops_that_waited_after_a_change_of_length_do_not_move_the_delay() -> None:
    delay = DelayControl(135 * MS, 800 * MS, hop_frames=1)
    for _ in range(100):
        delay.observe_hop(130 * MS)
    delay.change_hop(4)
    assert delay.offset == 255 * MS
    for late_ms in (500, 480, 250, 250):
        delay.observe_hop(late_ms * MS)
    assert delay.offset == 255 * MS


def test_longer_hops_do_not_raise_the_delay_above_its_ceiling() -> None:
    delay = DelayControl(100 * MS, 180 * MS, hop_frames=1)
    delay.observe_sound(20 * MS)
    delay.change_hop(16)
    assert delay.offset == 200 * MS


def test_the_delay_never_exceeds_its_ceiling_above_the_sound() -> None:
    delay = DelayControl(100 * MS, 400 * MS)
    for _ in range(2):
        delay.observe_sound(20 * MS)
        delay.observe_hop(5000 * MS)
    assert risen(delay) == 420 * MS


def test_a_stall_of_seconds_does_not_delay_the_call_by_seconds() -> None:
    queue = playout(delay_ms=300, ceiling_ms=800)
    for i in range(100):
        queue.push_sound(sound(), (i + 1) * SOUND_TICKS)
        queue.poll((i + 1) * SOUND_TICKS)
    for _ in range(100, 400):  # six seconds arrive at once
        queue.push_sound(sound(), 400 * SOUND_TICKS)
    queue.push_hop([frame(i) for i in range(50, 100)], 400 * SOUND_TICKS)
    queue.push_hop([frame(i) for i in range(100, 150)], 400 * SOUND_TICKS)
    queue.poll(400 * SOUND_TICKS)
    assert queue.delay.offset <= SOUND_TICKS + 800 * MS
    assert queue.waiting_sound_ticks <= 830 * MS


@pytest.mark.parametrize("drift_ppm", [-200, 0, 200])
def test_an_hour_of_drift_and_jitter_keeps_sound_whole_and_pictures_with_it(
    drift_ppm: int,
) -> None:
    """Arrivals drift against our clock by 200 ppm: 720 ms in the hour."""
    dice = random.Random(drift_ppm)
    queue = playout(delay_ms=360)
    rate = 1 + drift_ppm / 1e6
    silence = np.zeros(SOUND_TICKS, np.int16)
    blocks = 3600 * 50
    released_sound, released_video, worst_wait, waiting = 0, 0, 0, 0
    delays = []
    for block in range(blocks):
        jitter = int(abs(dice.gauss(0, 4)) * MS)
        now = int((block + 1) * SOUND_TICKS * rate) + jitter
        queue.push_sound(silence, now)
        if block % 8 == 6 and block > 8:  # a hop of four is ready 280 ms after its first sample
            first = (block // 8 - 1) * 4
            computed = now + int(abs(dice.gauss(15, 5)) * MS)
            queue.push_hop([frame(first + i) for i in range(4)], computed)
        for item in queue.poll(now):
            match item:
                case SoundRelease(pts=pts):
                    assert pts == released_sound * SOUND_TICKS
                    released_sound += 1
                    # How long the block waited, from its arrival without jitter.
                    waited = now - int((pts + SOUND_TICKS) * rate)
                    worst_wait = max(worst_wait, waited)
                    delays.append(waited)
                case VideoRelease(frame=shown):
                    assert abs(shown.pts - (released_sound - 1) * SOUND_TICKS) <= FRAME_TICKS // 2
                    released_video += 1
        waiting = max(waiting, queue.waiting_sound_ticks)
    assert released_sound >= blocks - 25
    assert queue.late_frames + queue.stalled_frames < 0.02 * released_video
    assert released_video > 0.97 * blocks / 2
    assert waiting < 500 * MS
    assert worst_wait < 500 * MS
    begin, end = np.mean(delays[3000:30000]), np.mean(delays[-27000:])
    assert abs(end - begin) < 10 * MS
