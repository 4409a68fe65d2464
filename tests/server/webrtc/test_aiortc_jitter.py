"""Sound in order at once; pictures whole, undamaged, and no later than they must be."""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
from aiortc.jitterbuffer import JitterBuffer, JitterFrame
from aiortc.rtp import RtpPacket

from server.webrtc.aiortc_jitter import (
    KEYFRAME_INTERVAL_S,
    REORDER_PACKETS,
    SoundJitterBuffer,
    VideoJitterBuffer,
    is_keyframe,
)
from server.webrtc.aiortc_nack import Retransmissions

KEY = b"\x10\x02\x00\x9d\x01\x2a"  # how a VP8 key frame begins
INTER = b"\x11\x02\x00"
PICTURE = 3600  # ticks of 90 kHz


class Now:
    """The monotonic clock of the buffer, turned by the test."""

    def __init__(self) -> None:
        self.s = 100.0


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> Now:
    clock = Now()
    monkeypatch.setattr("server.webrtc.aiortc_jitter.time.monotonic", lambda: clock.s)
    return clock


def _packet(
    sequence: int, timestamp: int = 0, marker: int = 0, data: bytes | None = None
) -> RtpPacket:
    packet = RtpPacket(sequence_number=sequence & 0xFFFF, timestamp=timestamp, marker=marker)
    packet._data = bytes([sequence & 0xFF]) if data is None else data  # type: ignore[attr-defined]
    return packet


def _picture(sequence: int, data: bytes = INTER) -> RtpPacket:
    """A picture of one packet, dated by its sequence number."""
    return _packet(sequence, sequence * PICTURE, 1, data)


# --- sound -------------------------------------------------------------------------


def _sound_order(sequences: list[int]) -> list[int]:
    buffer = SoundJitterBuffer()
    out = []
    for sequence in sequences:
        _, frame = buffer.add(_packet(sequence))
        while frame is not None:
            out.append(frame.data[0])
            frame = buffer.ready()
    return out


def test_sound_in_order_is_released_at_once() -> None:
    assert _sound_order([5, 6, 7, 8]) == [5, 6, 7, 8]


def test_swapped_sound_packets_are_put_in_order() -> None:
    assert _sound_order([5, 7, 6, 8, 9]) == [5, 6, 7, 8, 9]


def test_a_lost_sound_packet_is_skipped_after_two_later_ones() -> None:
    assert _sound_order([5, 7, 8]) == [5]
    assert _sound_order([5, 7, 8, 9, 10, 11]) == [5, 7, 8, 9, 10, 11]


def test_sound_does_not_fall_behind_for_good_after_losses() -> None:
    dice = random.Random(1)
    buffer = SoundJitterBuffer()
    behind = []
    for sequence in range(3000):
        if dice.random() < 0.01:
            continue
        _, frame = buffer.add(_packet(sequence, timestamp=sequence))
        while frame is not None:
            behind.append(sequence - frame.timestamp)
            frame = buffer.ready()
    assert max(behind) <= 8 and np.percentile(behind, 90) == 0


def test_sound_sequence_numbers_wrap() -> None:
    assert _sound_order([65534, 65535, 65536, 65537]) == [254, 255, 0, 1]


# --- pictures ----------------------------------------------------------------------


def test_a_picture_is_released_with_its_marker_bit() -> None:
    buffer = VideoJitterBuffer()
    assert buffer.add(_packet(1, 0)) == (False, None)
    ask, frame = buffer.add(_packet(2, 0, marker=1))
    assert not ask and frame is not None and frame.data == b"\x01\x02"


def test_stock_holds_the_picture_until_the_next_one() -> None:
    stock = JitterBuffer(capacity=512, is_video=True)
    stock.add(_packet(1, 0))
    assert stock.add(_packet(2, 0, marker=1)) == (False, None)


def test_a_retransmitted_packet_completes_the_picture_it_was_missing_from() -> None:
    buffer = VideoJitterBuffer()
    buffer.add(_packet(1, 0))
    assert buffer.add(_packet(3, 0, marker=1))[1] is None
    assert buffer.add(_packet(4, 3600, marker=1))[1] is None
    frame = buffer.add(_packet(2, 0))[1]
    assert frame is not None and frame.data == b"\x01\x02\x03"
    following = buffer.ready()
    assert following is not None and following.timestamp == 3600
    assert buffer.ready() is None


def _until_given_up(buffer: VideoJitterBuffer, now: Now, step_s: float = 0.04) -> tuple[int, float]:
    """Feeds pictures behind the missing packet 2; the first that asks, and seconds until then."""
    buffer.add(_picture(1, KEY))
    began = now.s
    for sequence in range(3, 100):
        ask, frame = buffer.add(_picture(sequence))
        assert frame is None
        if ask:
            return sequence, now.s - began
        now.s += step_s
    raise AssertionError("it never asked")


def test_a_hole_is_given_up_after_250_ms(now: Now) -> None:
    _, waited = _until_given_up(VideoJitterBuffer(), now)
    assert 0.25 < waited <= 0.29


def test_a_hole_waits_for_six_round_trips_and_half_a_second_at_most(now: Now) -> None:
    buffer = VideoJitterBuffer()
    buffer.round_trip_s = 0.06
    assert 0.36 < _until_given_up(buffer, now)[1] <= 0.40
    buffer = VideoJitterBuffer()
    buffer.round_trip_s = 3.0
    assert 0.4 < _until_given_up(buffer, now)[1] <= 0.5


def test_nothing_is_released_after_a_hole_that_was_given_up_until_a_key_frame(now: Now) -> None:
    buffer = VideoJitterBuffer()
    last, _ = _until_given_up(buffer, now)
    for sequence in range(last + 1, last + 10):
        assert buffer.add(_picture(sequence))[1] is None
    frame = buffer.add(_picture(last + 10, KEY))[1]
    assert frame is not None and frame.data == KEY
    frame = buffer.add(_picture(last + 11))[1]
    assert frame is not None and frame.data == INTER


def test_a_key_frame_with_a_hole_of_its_own_is_shown_once_it_is_whole(now: Now) -> None:
    buffer = VideoJitterBuffer()
    last, _ = _until_given_up(buffer, now)
    stamp = (last + 1) * PICTURE
    assert buffer.add(_packet(last + 1, stamp, 0, KEY))[1] is None
    assert buffer.add(_packet(last + 3, stamp, 1, b"end"))[1] is None
    assert buffer.add(_picture(last + 4))[1] is None
    assert buffer.wanted_from is not None and buffer.wanted_from <= last + 2
    frame = buffer.add(_packet(last + 2, stamp, 0, b"middle"))[1]
    assert frame is not None and frame.data == KEY + b"middleend"
    assert buffer.ready() is not None


def test_the_key_frame_is_asked_for_again_until_it_comes(now: Now) -> None:
    buffer = VideoJitterBuffer()
    last, _ = _until_given_up(buffer, now)
    asked = []
    for sequence in range(last + 1, last + 51):
        now.s += 0.04
        if buffer.add(_picture(sequence))[0]:
            asked.append(now.s)
    assert len(asked) == pytest.approx(2.0 / KEYFRAME_INTERVAL_S, abs=1)
    assert min(np.diff(asked)) >= KEYFRAME_INTERVAL_S


def test_after_an_outage_a_key_frame_is_asked_for_at_once(now: Now) -> None:
    buffer = VideoJitterBuffer()
    buffer.add(_picture(1, KEY))
    now.s += 2.0
    assert buffer.add(_picture(51))[0]


def test_a_sender_that_begins_anew_is_followed_from_its_key_frame_on() -> None:
    buffer = VideoJitterBuffer()
    buffer.add(_picture(1, KEY))
    assert buffer.add(_picture(20_000)) == (True, None)
    assert buffer.add(_picture(20_001, KEY))[1] is not None


def test_video_memory_is_bounded_behind_a_hole(now: Now) -> None:
    buffer = VideoJitterBuffer()
    buffer.add(_packet(1, 0, marker=1))
    asked = [buffer.add(_packet(3 + i, i))[0] for i in range(4 * REORDER_PACKETS)]
    assert any(asked)
    assert len(buffer._held) <= REORDER_PACKETS


def test_key_frames_are_known_by_their_first_packet() -> None:
    assert is_keyframe("VP8", KEY) and not is_keyframe("VP8", INTER) and not is_keyframe("VP8", b"")
    parameters, slice_ = b"\0\0\0\1\x67\x42", b"\0\0\0\1\x65\x88"
    assert is_keyframe("H264", parameters + slice_)
    assert not is_keyframe("H264", slice_) and not is_keyframe("H264", b"\0\0\0\1\x61\x9a")


# --- with retransmissions ----------------------------------------------------------


class LossyPath:
    """A sender of three packets a picture and a receiver, over a path that loses both ways."""

    def __init__(self, now: Now, loss: float, one_way_s: float) -> None:
        self._now = now
        self._loss = loss
        self._one_way_s = one_way_s
        self._dice = random.Random(7)
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._sent: dict[int, RtpPacket] = {}
        self._key_wanted = True
        self.buffer = VideoJitterBuffer()
        self.requests = Retransmissions()
        self.shown: list[tuple[float, JitterFrame]] = []

    def run(self, pictures: int) -> None:
        for number in range(pictures):
            self._at(100.0 + 0.04 * number, partial(self._send, number))
        end = 100.0 + 0.04 * pictures + 1.0
        while self._events:
            self._now.s, _, event = heapq.heappop(self._events)
            if self._now.s < end:
                event()

    def _at(self, when: float, event: Callable[[], None]) -> None:
        heapq.heappush(self._events, (when, len(self._events) + self._dice.getrandbits(30), event))

    def _carry(self, event: Callable[[], None]) -> None:
        if self._dice.random() >= self._loss:
            self._at(self._now.s + self._one_way_s, event)

    def _send(self, number: int) -> None:
        begin = KEY if self._key_wanted else INTER
        self._key_wanted = False
        for part in range(3):
            sequence = 3 * number + part
            data = begin if part == 0 else b"more"
            packet = _packet(sequence, number * PICTURE, int(part == 2), data)
            self._sent[sequence] = packet
            self._carry(partial(self._receive, packet, again=False))

    def _receive(self, packet: RtpPacket, *, again: bool) -> None:
        now = self._now.s
        if again:
            self.requests.note_retransmission(packet.sequence_number, now)
        self.requests.add(packet)
        ask, frame = self.buffer.add(packet)
        if ask:
            self._carry(self._want_key)
        while frame is not None:
            self.shown.append((now, frame))
            frame = self.buffer.ready()
        self.buffer.round_trip_s = self.requests.round_trip_s
        if self.buffer.wanted_from is not None:
            self.requests.forget_before(self.buffer.wanted_from)
        self._request()

    def _request(self) -> None:
        due = self.requests.due(self._now.s)
        if due:
            self._carry(lambda: self._retransmit(due))
            self._at(self._now.s + self.requests.repeat_s, self._request)

    def _retransmit(self, sequences: list[int]) -> None:
        for sequence in sequences:
            self._carry(partial(self._receive, self._sent[sequence], again=True))

    def _want_key(self) -> None:
        self._key_wanted = True


@pytest.mark.parametrize(("loss", "one_way_s"), [(0.03, 0.002), (0.1, 0.002), (0.1, 0.04)])
def test_a_lossy_path_costs_almost_no_picture_and_damages_none(
    now: Now, loss: float, one_way_s: float
) -> None:
    path = LossyPath(now, loss, one_way_s)
    path.run(2000)
    numbers = [frame.timestamp // PICTURE for _, frame in path.shown]
    assert len(numbers) >= (0.99 if one_way_s < 0.01 else 0.97) * 2000
    damaged = [
        number
        for before, number, (_, frame) in zip(numbers, numbers[1:], path.shown[1:], strict=False)
        if number != before + 1 and not is_keyframe("VP8", frame.data)
    ]
    assert damaged == []
    late = sorted(
        at - 100.0 - 0.04 * number for number, (at, _) in zip(numbers, path.shown, strict=True)
    )
    assert late[len(late) // 2] <= (one_way_s if one_way_s < 0.01 else 2 * one_way_s) + 0.001
