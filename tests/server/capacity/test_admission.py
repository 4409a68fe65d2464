"""Places for calls, on a clock that tests turn."""

from __future__ import annotations

import pytest

from server.access.client_limits import ClientLimited, ClientLimits
from server.capacity.admission import LATE_HOPS, LONGEST_RETRY_S, RECOVER_S, Admission, ServerFull


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def _admission(capacity: int, clock: Clock, **limits: int) -> Admission:
    clients = ClientLimits(limits.get("sessions", 0), limits.get("per_minute", 0), 7, clock)
    return Admission(capacity, clients, 7, clock)


def _refused(admission: Admission) -> ServerFull:
    with pytest.raises(ServerFull) as caught:
        admission.enter("one too many", None)
    return caught.value


def test_the_limit_is_kept_and_a_place_given_back_is_free() -> None:
    admission = _admission(2, Clock())
    admission.enter("a", None)
    admission.enter("b", None)
    refusal = _refused(admission)
    assert "2 calls" in str(refusal) and refusal.retry_after_s == 7
    admission.leave("a")
    admission.leave("a")
    admission.enter("c", None)
    assert admission.taken == 2


def test_who_is_refused_is_told_to_come_back_when_a_call_should_have_ended() -> None:
    clock = Clock()
    admission = _admission(4, clock)
    for length_s in (100, 120, 140):
        admission.enter("earlier", None)
        clock.now += length_s
        admission.leave("earlier")
    for name in "abcd":
        admission.enter(name, None)
    assert _refused(admission).retry_after_s == 30  # four calls of 120 s: one ends every 30 s


def test_the_time_to_come_back_is_bounded() -> None:
    clock = Clock()
    admission = _admission(1, clock)
    for length_s, expected in ((0.5, 7), (10_000, LONGEST_RETRY_S)):
        for _ in range(20):
            admission.enter("earlier", None)
            clock.now += length_s
            admission.leave("earlier")
        admission.enter("now", None)
        assert _refused(admission).retry_after_s == expected
        admission.leave("now")


def test_late_hops_let_in_one_call_fewer_and_cut_none() -> None:
    clock = Clock()
    admission = _admission(4, clock)
    for name in "abc":
        admission.enter(name, None)
    admission.note_late(LATE_HOPS - 1)
    assert admission.limit == 4, "less than LATE_HOPS may be chance"
    admission.note_late(1)
    assert (admission.limit, admission.taken) == (2, 3)
    assert _refused(admission)
    admission.leave("a")
    assert _refused(admission)
    admission.leave("b")
    admission.enter("d", None)
    assert admission.taken == 2


def test_without_late_hops_places_come_back_one_by_one() -> None:
    clock = Clock()
    admission = _admission(4, clock)
    for name in "abc":
        admission.enter(name, None)
    admission.note_late(LATE_HOPS)
    limits = []
    for _ in range(4):
        clock.now += RECOVER_S
        limits.append(admission.limit)
    assert limits == [3, 4, 4, 4]


def test_late_hops_far_apart_are_chance() -> None:
    clock = Clock()
    admission = _admission(4, clock)
    for name in "abc":
        admission.enter(name, None)
    for _ in range(10 * LATE_HOPS):
        admission.note_late(1)
        clock.now += 11
    assert admission.limit == 4


def test_one_call_is_always_let_in() -> None:
    clock = Clock()
    admission = _admission(3, clock)
    admission.enter("a", None)
    for _ in range(5):
        admission.note_late(100)
        clock.now += 1
    assert admission.limit == 1
    admission.leave("a")
    admission.enter("b", None)


def test_a_smaller_capacity_cuts_no_call() -> None:
    admission = _admission(3, Clock())
    for name in "abc":
        admission.enter(name, None)
    admission.capacity = 1
    assert admission.taken == 3
    assert "one call" in str(_refused(admission))


def test_a_client_with_too_many_calls_takes_no_place_of_others() -> None:
    admission = _admission(3, Clock(), sessions=1)
    admission.enter("a", "192.0.2.1")
    with pytest.raises(ClientLimited) as caught:
        admission.enter("b", "192.0.2.1")
    assert caught.value.code == "client_sessions"
    admission.enter("c", "192.0.2.2")
    admission.leave("a")
    admission.enter("d", "192.0.2.1")
    assert admission.taken == 2


def test_a_call_refused_for_want_of_a_place_is_not_counted_as_the_clients() -> None:
    admission = _admission(1, Clock(), sessions=1)
    admission.enter("a", None)
    with pytest.raises(ServerFull):
        admission.enter("b", "192.0.2.1")
    admission.leave("a")
    admission.enter("b", "192.0.2.1")
