"""What a load report says of the machine and of the server."""

from __future__ import annotations

from benchmarks.load_causes import counted, waiting


def test_waiting_for_a_core_is_a_share_of_the_time_and_a_longest_wait() -> None:
    looks = [{"engine": 100.0 + waited} for waited in (0, 5, 80, 90)]
    assert waiting(looks, 300.0) == ({"engine": 30.0}, {"engine": 75.0})


def test_a_kernel_that_does_not_say_is_no_machine_without_waiting() -> None:
    assert waiting([None, None, None], 300.0) == (None, None)


def test_only_what_was_counted_in_the_phase_counts() -> None:
    before = {
        'lipwire_stage_seconds_sum{stage="generate"}': 1.0,
        'lipwire_stage_seconds_count{stage="generate"}': 10.0,
        'lipwire_loop_lag_seconds_bucket{le="0.001"}': 4.0,
        'lipwire_loop_lag_seconds_bucket{le="0.02"}': 4.0,
        'lipwire_loop_lag_seconds_bucket{le="0.5"}': 5.0,
        'lipwire_loop_lag_seconds_bucket{le="+Inf"}': 5.0,
    }
    after = {
        'lipwire_stage_seconds_sum{stage="generate"}': 1.3,
        'lipwire_stage_seconds_count{stage="generate"}': 20.0,
        'lipwire_loop_lag_seconds_bucket{le="0.001"}': 4.0,
        'lipwire_loop_lag_seconds_bucket{le="0.02"}': 6.0,
        'lipwire_loop_lag_seconds_bucket{le="0.5"}': 7.0,
        'lipwire_loop_lag_seconds_bucket{le="+Inf"}': 7.0,
        'lipwire_hop_frames_bucket{le="1.0"}': 0.0,
        'lipwire_hop_frames_bucket{le="4.0"}': 9.0,
        'lipwire_hop_frames_bucket{le="+Inf"}': 9.0,
    }
    stage_ms, lag_ms, hop_frames = counted(before, after)
    assert stage_ms == {"generate": 30.0}
    assert lag_ms == 20.0, "the latest timer of before does not count"
    assert hop_frames == {"4": 9}
