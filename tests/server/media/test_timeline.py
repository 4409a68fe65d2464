"""Sound without holes, and pictures on its time."""

from __future__ import annotations

import random

import numpy as np

from server.media.media_clock import SOUND_TICKS, TICK_HZ, TICKS_PER_MS
from server.media.timeline import (
    AHEAD_TICKS,
    JUMP_TICKS,
    LATE_TICKS,
    STARVED_TICKS,
    CameraClock,
    SpeechTimeline,
)

MS = TICKS_PER_MS


def block(value: int = 5) -> np.ndarray:
    return np.full(SOUND_TICKS, value, np.int16)


def ask_until(timeline: SpeechTimeline, now: int, end: int) -> int:
    """Asks for silence every 20 ms; how much there was."""
    moments = range(now + SOUND_TICKS, end + 1, SOUND_TICKS)
    return sum(len(timeline.fill(moment)) for moment in moments)


def test_packets_in_order_pass_unchanged_whatever_their_origin() -> None:
    timeline = SpeechTimeline(0)
    got = [timeline.push(777 + i * SOUND_TICKS, block(i), i * SOUND_TICKS) for i in range(5)]
    assert [piece[0] for piece in got] == [0, 1, 2, 3, 4]
    assert timeline.position == 5 * SOUND_TICKS


def test_a_lost_packet_becomes_as_much_silence() -> None:
    timeline = SpeechTimeline(0)
    timeline.push(0, block(), 0)
    got = timeline.push(2 * SOUND_TICKS, block(), 40 * MS)
    assert not got[:SOUND_TICKS].any() and (got[SOUND_TICKS:] == 5).all()
    assert timeline.silence_ticks == SOUND_TICKS


def test_a_late_or_doubled_packet_is_dropped() -> None:
    timeline = SpeechTimeline(0)
    timeline.push(0, block(), 0)
    timeline.push(SOUND_TICKS, block(), 0)
    assert len(timeline.push(0, block(), 10)) == 0
    assert timeline.dropped_ticks == SOUND_TICKS
    half = timeline.push(SOUND_TICKS * 3 // 2, block(), 20)
    assert len(half) == SOUND_TICKS // 2


def test_another_microphone_follows_what_is_there_whatever_its_clock_says() -> None:
    timeline = SpeechTimeline(0)
    timeline.push(0, block(), 0)
    timeline.restart()
    assert len(timeline.push(SOUND_TICKS // 2, block(7), 20 * MS)) == SOUND_TICKS
    assert len(timeline.push(SOUND_TICKS * 3 // 2, block(7), 40 * MS)) == SOUND_TICKS
    assert (timeline.position, timeline.dropped_ticks, timeline.silence_ticks) == (2880, 0, 0)


def test_after_a_burst_the_first_packet_that_is_nearly_in_time_is_the_last_one_lost() -> None:
    timeline = SpeechTimeline(0)
    length = 2 * SOUND_TICKS
    packet = np.full(length, 5, np.int16)
    for i in range(25):
        timeline.push(i * length, packet, (i + 1) * length)
    burst = 30 * length
    for i in range(25, 30):  # what the path held back comes at once
        timeline.fill(burst)
        timeline.push(i * length, packet, burst)
    dropped = timeline.dropped_ticks
    for i in range(30, 60):  # and what follows comes 8 ms later than before
        arrival = (i + 1) * length + 8 * MS
        timeline.fill(arrival)
        timeline.push(i * length, packet, arrival)
    assert timeline.dropped_ticks - dropped <= length
    assert timeline.position == 60 * length, "media time is the peer's own count"


def test_a_lead_shifts_where_packets_end_and_nothing_else() -> None:
    spoken = SpeechTimeline(0, lead=192)
    first = spoken.push(5000, block(), 0)
    assert len(first) == 192 + SOUND_TICKS and not first[:192].any() and first[192] == 5
    assert len(spoken.push(5000 + SOUND_TICKS, block(), 0)) == SOUND_TICKS
    assert spoken.position == 192 + 2 * SOUND_TICKS
    silent = SpeechTimeline(0, lead=192)
    assert sum(len(silent.fill(i * SOUND_TICKS)) for i in range(6)) == 192 + 5 * SOUND_TICKS
    assert len(silent.push(77, block(), 5 * SOUND_TICKS)) == SOUND_TICKS


def test_time_runs_on_without_any_microphone() -> None:
    timeline = SpeechTimeline(1000)
    total = sum(len(timeline.fill(1000 + i * 7 * MS)) for i in range(200))
    assert total == timeline.position
    assert 199 * 7 * MS - SOUND_TICKS < total <= 199 * 7 * MS


def test_a_microphone_that_stops_is_replaced_by_silence_after_120_ms() -> None:
    timeline = SpeechTimeline(0)
    timeline.push(0, block(), 0)
    assert ask_until(timeline, 0, STARVED_TICKS) == 0
    filled = len(timeline.fill(STARVED_TICKS + SOUND_TICKS))
    assert filled == STARVED_TICKS + SOUND_TICKS
    assert len(timeline.fill(10 * TICK_HZ)) + filled == 10 * TICK_HZ // SOUND_TICKS * SOUND_TICKS


def test_a_process_that_stood_still_reads_what_came_before_it_takes_silence_for_it() -> None:
    timeline = SpeechTimeline(0)
    timeline.push(0, block(), 0)
    timeline.fill(20 * MS)
    now = 400 * MS
    heard = []
    for i in range(1, 20):  # read one after another, and the timer is due in between
        assert len(timeline.fill(now)) == 0
        heard.append(timeline.push(i * SOUND_TICKS, block(), now))
        now += 2 * MS
    assert (np.concatenate(heard) == 5).all()
    assert (timeline.silence_ticks, timeline.dropped_ticks) == (0, 0)


def test_a_process_that_always_stands_still_does_not_stop_media_time() -> None:
    timeline = SpeechTimeline(0)
    timeline.push(0, block(), 0)
    for i in range(1, 40):
        timeline.fill(i * 100 * MS)
    assert timeline.position >= 3900 * MS


def test_after_an_outage_speech_goes_on_at_its_own_time() -> None:
    timeline = SpeechTimeline(0)
    timeline.push(0, block(), 0)
    ask_until(timeline, 0, TICK_HZ)
    position = timeline.position
    # Sent during the outage and delivered now: its place is taken.
    assert len(timeline.push(SOUND_TICKS, block(), TICK_HZ)) == 0
    got = timeline.push(position + SOUND_TICKS, block(), TICK_HZ)
    assert len(got) == 2 * SOUND_TICKS and got[-1] == 5


def test_a_peer_that_paused_its_clock_is_heard_again() -> None:
    timeline = SpeechTimeline(0)
    timeline.push(0, block(), 0)
    timeline.fill(5 * TICK_HZ)
    heard = []
    for i in range(1, 40):
        now = 5 * TICK_HZ + i * SOUND_TICKS
        timeline.fill(now)
        heard.append(len(timeline.push(i * SOUND_TICKS, block(), now)))
    first = next(i for i, count in enumerate(heard) if count)
    assert first * SOUND_TICKS <= LATE_TICKS + SOUND_TICKS
    assert all(count == SOUND_TICKS for count in heard[first:])
    assert abs(timeline.position - now) <= 2 * SOUND_TICKS


def test_packets_held_up_on_their_way_do_not_push_time_ahead() -> None:
    timeline = SpeechTimeline(0)
    timeline.push(0, block(), 0)
    now = 6 * TICK_HZ
    timeline.fill(now)
    for i in range(1, 310):  # six seconds of packets within one
        now += 3 * MS
        timeline.fill(now)
        timeline.push(i * SOUND_TICKS, block(), now)
    assert timeline.position <= now + SOUND_TICKS
    assert len(timeline.push(400 * SOUND_TICKS, block(), 8 * TICK_HZ)) > 0


def test_timestamps_that_run_away_from_the_clock_are_not_followed() -> None:
    timeline = SpeechTimeline(0)
    for i in range(1000):  # each leaps by a gap that one lost burst could leave
        now = i * SOUND_TICKS
        timeline.fill(now)
        timeline.push(i * JUMP_TICKS, block(), now)
        assert timeline.position <= 1.01 * now + AHEAD_TICKS + SOUND_TICKS


def test_sound_that_comes_faster_than_it_lasts_is_dropped() -> None:
    timeline = SpeechTimeline(0)
    for i in range(1000):
        timeline.push(i * 10 * SOUND_TICKS, np.full(10 * SOUND_TICKS, 5, np.int16), i * SOUND_TICKS)
    assert timeline.position <= 1.01 * 1000 * SOUND_TICKS + AHEAD_TICKS
    assert timeline.dropped_ticks > 8000 * SOUND_TICKS


def test_a_clock_that_is_fast_by_200_ppm_loses_nothing() -> None:
    timeline = SpeechTimeline(0)
    for i in range(180_000):  # an hour
        timeline.push(i * SOUND_TICKS, block(), i * SOUND_TICKS * 5000 // 5001)
    assert timeline.dropped_ticks == 0


def test_a_leap_of_timestamps_is_a_new_clock_and_no_gap() -> None:
    timeline = SpeechTimeline(0)
    timeline.push(0, block(), 0)
    got = timeline.push(JUMP_TICKS * 10, block(), 20 * MS)
    assert len(got) == SOUND_TICKS


def test_a_camera_picture_keeps_its_time_under_network_jitter() -> None:
    dice = random.Random(3)
    clock = CameraClock()
    placed = []
    for i in range(500):
        arrival = i * 1920 + 30 * MS + int(dice.random() * 25 * MS)
        placed.append(clock.place(90_000 + i * 1920, arrival) - i * 1920)
    settled = placed[128:]
    assert max(settled) - min(settled) < 2 * MS
    assert 30 * MS <= min(settled) < 33 * MS


def test_a_camera_that_restarts_its_clock_is_placed_anew() -> None:
    clock = CameraClock()
    for i in range(50):
        clock.place(i * 1920, i * 1920)
    assert clock.place(10**9, 51 * 1920) == 51 * 1920
