"""The length of hops on a turned clock: by calls, by what the loop is busy with, and back."""

from __future__ import annotations

import pytest

from engine.errors import ConfigError
from server.engine_process.hop_length import (
    BUSY_WITHIN_S,
    HOLD_S,
    LONGEST_HOLD_S,
    SHORTEN_AFTER_S,
    HopLength,
)

COSTS_MS = {1: 15.0, 2: 20.0, 4: 30.0}  # of one hop; two cores of an EPYC


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def hops(clock: Clock) -> HopLength:
    return HopLength(COSTS_MS, clock)


def _work(hops: HopLength, clock: Clock, share: float, seconds: float = BUSY_WITHIN_S) -> None:
    """The loop is busy for a share of the time, an eighth of a second at a time."""
    for _ in range(round(8 * seconds)):
        clock.now += 0.125
        hops.note_work(0.125 * share)
        assert hops.frames in COSTS_MS


@pytest.mark.parametrize(("calls", "frames"), [(0, 1), (1, 1), (2, 2), (3, 4), (4, 4), (40, 4)])
def test_hops_are_the_shortest_that_leave_the_loop_room(
    hops: HopLength, calls: int, frames: int
) -> None:
    hops.set_streams(calls)
    assert hops.frames == frames


def test_they_become_longer_at_once_and_shorter_after_a_while(
    hops: HopLength, clock: Clock
) -> None:
    hops.set_streams(4)
    assert hops.frames == 4
    hops.set_streams(1)
    assert hops.frames == 4
    clock.now += SHORTEN_AFTER_S - 0.1
    assert hops.frames == 4
    clock.now += 0.2
    assert hops.frames == 1


def test_calls_that_come_and_go_do_not_make_them_swing(hops: HopLength, clock: Clock) -> None:
    hops.set_streams(4)
    assert hops.frames == 4
    for _ in range(10):
        for calls in (1, 4):
            clock.now += SHORTEN_AFTER_S * 0.6
            hops.set_streams(calls)
            assert hops.frames == 4


def test_when_the_last_call_has_ended_the_next_begins_with_the_shortest(hops: HopLength) -> None:
    hops.set_streams(4)
    assert hops.frames == 4
    hops.set_streams(0)
    assert hops.frames == 1


def test_a_loop_that_is_busier_than_expected_makes_them_longer(
    hops: HopLength, clock: Clock
) -> None:
    hops.set_streams(1)
    _work(hops, clock, 0.7)
    assert hops.frames == 1
    _work(hops, clock, 0.9)
    assert hops.frames == 2
    _work(hops, clock, 0.9)
    assert hops.frames == 4
    _work(hops, clock, 0.99)
    assert hops.frames == 4


def test_what_the_machine_asked_for_is_held_and_longer_each_time(
    hops: HopLength, clock: Clock
) -> None:
    hops.set_streams(1)
    held: list[float] = []
    for _ in range(6):
        _work(hops, clock, 0.9)
        assert hops.frames == 2
        began = clock.now
        while hops.frames == 2:
            _work(hops, clock, 0.4, seconds=1.0)
        held.append(clock.now - began)
    expected = [min(HOLD_S * 2**turn, LONGEST_HOLD_S) + SHORTEN_AFTER_S for turn in range(6)]
    assert held == pytest.approx(expected, abs=2.0)


def test_one_length_is_used_whatever_happens(clock: Clock) -> None:
    hops = HopLength({4: 30.0}, clock)
    hops.set_streams(1)
    clock.now += BUSY_WITHIN_S + 1
    hops.note_work(10.0)
    assert hops.frames == 4


def test_no_length_at_all_is_refused(clock: Clock) -> None:
    with pytest.raises(ConfigError, match="one length"):
        HopLength({}, clock)
