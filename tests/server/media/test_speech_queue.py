"""Speech faster than real time, on a clock that the test turns."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.media.media_clock import SOUND_TICKS, TICKS_PER_MS
from server.media.speech_queue import AudioOverrun, SpeechQueue
from server.media.timeline import I16
from server.protocol import PlaybackFinishedMessage, PlaybackStartedMessage

WINDOW = 500 * TICKS_PER_MS


def tone(ms: int, level: int = 1000) -> I16:
    return np.full(ms * TICKS_PER_MS, level, np.int16)


def at(ms: int) -> int:
    return ms * TICKS_PER_MS


def test_media_time_follows_the_clock_in_silence() -> None:
    queue = SpeechQueue(WINDOW)
    queue.begin(at(7), 100)
    assert not queue.fill(at(7) + 100).any() and queue.position == 100
    assert len(queue.fill(at(47))) == 2 * SOUND_TICKS
    assert queue.position == 100 + 2 * SOUND_TICKS
    assert queue.next_due() == at(67)


def test_half_a_second_at_once_is_played_at_one_speed() -> None:
    queue = SpeechQueue(WINDOW)
    queue.push(tone(500), 0)
    queue.end_segment()
    for block in range(1, 26):
        assert (queue.fill(at(20 * block)) == 1000).all()
    assert not queue.fill(at(520)).any()


def test_more_than_the_credit_is_refused_whole() -> None:
    queue = SpeechQueue(WINDOW)
    queue.push(tone(500), 0)
    with pytest.raises(AudioOverrun, match=r"at most 500000 us .* got 501000"):
        queue.push(tone(1), 0)
    assert queue.waiting == WINDOW
    queue.fill(at(20))
    assert queue.until == at(520)
    queue.push(tone(20), at(20))


@given(st.lists(st.integers(1, 3000), min_size=1, max_size=12))
def test_speech_chunked_equals_whole(pieces: list[int]) -> None:
    samples = np.arange(1, sum(pieces) + 1, dtype=np.int16)
    whole, chunked = SpeechQueue(1 << 30), SpeechQueue(1 << 30)
    whole.push(samples, 0)
    start = 0
    for piece in pieces:
        chunked.push(samples[start : start + piece], 0)
        start += piece
    for queue in (whole, chunked):
        queue.end_segment()
    end = at(2000)
    assert np.array_equal(whole.fill(end), chunked.fill(end))
    assert whole.note_released(end) == chunked.note_released(end)


def test_a_trickle_begins_when_a_little_has_come_together() -> None:
    queue = SpeechQueue(WINDOW)
    queue.push(tone(20), at(0))
    assert not queue.fill(at(20)).any()
    queue.push(tone(20), at(20))
    queue.push(tone(20), at(39))
    assert queue.fill(at(40)).all()


def test_a_single_packet_begins_when_no_more_came() -> None:
    queue = SpeechQueue(WINDOW)
    queue.push(tone(20), at(0))
    assert not queue.fill(at(40)).any()
    assert queue.fill(at(60)).all()


def test_a_flush_plays_what_little_there_is() -> None:
    queue = SpeechQueue(WINDOW)
    queue.push(tone(5), 0)
    queue.flush()
    assert np.count_nonzero(queue.fill(at(20))) == 5 * TICKS_PER_MS


def test_a_hole_in_an_utterance_moves_the_rest_and_cuts_nothing() -> None:
    queue = SpeechQueue(WINDOW)
    queue.push(tone(60), 0)
    heard = np.count_nonzero(queue.fill(at(200)))
    queue.push(tone(60, 2000), at(210))
    queue.end_segment()
    heard += np.count_nonzero(queue.fill(at(400)))
    assert heard == at(120)


def test_playback_is_told_when_sound_has_left() -> None:
    queue = SpeechQueue(WINDOW)
    queue.push(tone(30), 0)
    queue.end_segment()
    queue.push(tone(60), 0)
    queue.fill(at(200))
    assert queue.note_released(0) == []
    assert queue.note_released(at(20)) == [PlaybackStartedMessage(0, 0)]
    assert queue.note_released(at(40)) == [
        PlaybackStartedMessage(0, 1),
        PlaybackFinishedMessage(0, 0, 30_000, interrupted=False),
    ]
    assert queue.note_released(at(200)) == []  # the second is not complete
    queue.end_segment()
    queue.fill(at(220))
    assert queue.note_released(at(220)) == [
        PlaybackFinishedMessage(0, 1, 60_000, interrupted=False)
    ]


def test_an_interrupt_says_how_much_was_heard_and_gives_the_credit_back() -> None:
    queue = SpeechQueue(WINDOW)
    queue.push(tone(500), 0)
    queue.fill(at(300))
    queue.note_released(at(120))
    assert queue.interrupt(1) == [PlaybackFinishedMessage(0, 0, 120_000, interrupted=True)]
    assert (queue.waiting, queue.until, queue.generation) == (0, WINDOW, 1)
    assert not queue.fill(at(400)).any()
    queue.push(tone(60), at(400))
    queue.end_segment()
    queue.fill(at(500))
    assert PlaybackStartedMessage(1, 1) in queue.note_released(at(500))
