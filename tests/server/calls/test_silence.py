"""How long a client can have been silent."""

from __future__ import annotations

import pytest

from server.calls.silence import ENDING_S, LOOK_INTERVAL_S, LOOK_LATE_S, Silence, heard_within_s


def test_packets_are_taken_to_have_come_right_after_the_look_before() -> None:
    silence = Silence(10.0)
    silence.look(1, 10.25)
    silence.look(2, 10.5)
    assert silence.longest_s == 0.25
    silence.look(2, 12.0)
    assert silence.longest_s == 1.75


def test_the_time_that_is_left_ends_before_the_limit() -> None:
    silence = Silence(0.0)
    silence.look(0, 10.0)
    assert silence.left_s(15) == pytest.approx(5 - ENDING_S)
    silence.look(0, 14.9)
    assert silence.left_s(15) == 0


def test_other_counts_are_a_sign_of_life_even_when_they_are_lower() -> None:
    silence = Silence(0.0)
    silence.look(500, 10.0)
    silence.look(3, 14.0)  # another connection
    assert silence.longest_s == 4.0
    silence.look(4, 14.25)
    assert silence.longest_s == 0.25


def test_the_promise_leaves_room_for_a_late_look_and_the_ending() -> None:
    assert heard_within_s(15) == 15 - ENDING_S - LOOK_INTERVAL_S - LOOK_LATE_S
    assert heard_within_s(0.1) == 0
