"""Sessions share one account of searches, in turn and without starving anybody."""

from __future__ import annotations

import gc

from engine.face.budget import STALE_PICTURES, BudgetShare, DetectorBudget


def _granted(shares: list[BudgetShare], cost: int, intervals: int) -> list[int]:
    """How often each share may search if all always want to."""
    counts = [0] * len(shares)
    for _ in range(intervals):
        for index, share in enumerate(shares):
            share.picture()
            counts[index] += share.take(cost)
    return counts


def test_work_over_many_intervals_is_what_was_allowed() -> None:
    for sessions in (1, 3):
        budget = DetectorBudget(1000)
        shares = [budget.join() for _ in range(sessions)]
        # Waiting for turns may leave a full account unused for a while.
        assert 40 <= sum(_granted(shares, 2000, 100)) <= 51
        assert budget.granted + budget.refused == 100 * sessions


def test_a_search_dearer_than_an_interval_waits_for_its_debt_to_be_paid() -> None:
    budget = DetectorBudget(1000)
    share = budget.join()
    answers = []
    for _ in range(12):
        share.picture()
        answers.append(share.take(4000))
    assert answers == [True, False, False, False] * 3


def test_every_session_gets_its_share_though_one_is_always_asked_first() -> None:
    budget = DetectorBudget(1000)
    shares = [budget.join() for _ in range(4)]
    counts = _granted(shares, 1000, 80)
    assert max(counts) - min(counts) <= 1


def test_hops_of_several_pictures_starve_nobody() -> None:
    budget = DetectorBudget(1000)
    shares = [budget.join() for _ in range(3)]
    counts = [0, 0, 0]
    for _ in range(60):
        for index, share in enumerate(shares):
            for _ in range(4):
                share.picture()
                counts[index] += share.take(1500)
    assert min(counts) > 0.8 * max(counts)


def test_who_has_stopped_asking_holds_nobody_up() -> None:
    budget = DetectorBudget(1000)
    silent, busy = budget.join(), budget.join()
    assert busy.take(5000)
    assert not silent.take(1000)
    answers = []
    for _ in range(4 * STALE_PICTURES):
        busy.picture()
        answers.append(busy.take(1000))
    assert any(answers)


def test_a_session_that_ended_no_longer_counts() -> None:
    budget = DetectorBudget(1000)
    shares = [budget.join() for _ in range(3)]
    assert budget.sessions == 3
    del shares[1:]
    gc.collect()
    assert budget.sessions == 1
