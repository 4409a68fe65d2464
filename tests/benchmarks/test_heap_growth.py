"""What grows with the number of calls, and what only did at first."""

from __future__ import annotations

from benchmarks.heap_growth import growth


def test_what_grows_with_every_call_is_told_and_what_stays_is_not() -> None:
    calls = [40, 80, 120, 160]
    readings = [
        {"types": {"leaks": 2 * count, "stays": 10 + 90 * (count > 40), "goes": 500 - count}}
        for count in calls
    ]
    told = growth(readings, calls, "types")
    assert told == {"leaks": {"per_1000": 2000.0, "readings": [80, 160, 240, 320]}}
