"""Runs of good frames and their pieces."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from training.prepare.cut import cut_clips, same_reason, unbroken_runs, with_guard


def test_frames_beside_a_bad_one_are_left_out_for_its_reason() -> None:
    reasons = [None, None, None, "covered", None, None, None]
    assert with_guard(reasons, 1) == [None, None, "covered", "covered", "covered", None, None]
    assert with_guard(reasons, 0) == reasons


def test_a_guard_leaves_another_reason_as_it_is() -> None:
    assert with_guard(["profile", "no face", None], 2) == ["profile", "no face", "profile"]


def test_runs_end_at_reasons_and_at_breaks() -> None:
    reasons = [None, None, "covered", None, None, None]
    breaks = [True, False, False, False, False, True]
    assert unbroken_runs(reasons, breaks) == [range(0, 2), range(3, 5), range(5, 6)]


def test_stretches_of_one_reason_are_told_together() -> None:
    reasons = ["a", "a", None, "b"]
    assert same_reason(reasons) == [(range(0, 2), "a"), (range(3, 4), "b")]


@given(st.integers(0, 500), st.integers(0, 4000), st.integers(1, 120), st.integers(0, 200))
def test_clips_cover_a_run_and_keep_to_their_lengths(
    start: int, length: int, shortest: int, more: int
) -> None:
    longest = 2 * shortest + more
    clips = cut_clips(range(start, start + length), shortest, longest)
    if length < shortest:
        assert clips == []
        return
    assert [frame for clip in clips for frame in clip] == list(range(start, start + length))
    assert all(shortest <= len(clip) <= longest for clip in clips)
