"""A jump in the pictures, a hole in the sound: what the figures of a switch must not miss."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from benchmarks.backend_switch import stretch, summary
from benchmarks.caller import Received
from benchmarks.switch_pictures import ALIKE_DB, Switches
from server.protocol import Percentiles, Stats

STATS = Stats(
    25.0, 0, 0, 0, Percentiles(100.0, 120.0), None, 200.0, 1.0, 20.0, 4, "fake", "ready", False
)


@pytest.fixture
def switches() -> Switches:
    """Mouths that grow brighter by two levels a picture; the second backend's by one more."""
    first = np.repeat(np.arange(0, 80, 2, dtype=np.uint8), 16).reshape(40, 4, 4)
    return Switches(first, first + 1, first.copy(), [10, 30], ("a", "b"))


def test_pictures_of_the_backend_that_should_have_drawn_them_are_without_fault(
    switches: Switches,
) -> None:
    switched = switches.first.copy()
    switched[10:30] += 1
    exact = dataclasses.replace(switches, switched=switched)
    assert exact.worst_levels() == 0 and exact.psnr_db().min() == ALIKE_DB
    assert exact.excess().tolist() == [1.0, -1.0], "what the backends differ by"


def test_a_jump_at_a_switch_is_found(switches: Switches) -> None:
    switched = switches.first.copy()
    switched[10:] += 40
    found = summary(dataclasses.replace(switches, switched=switched))
    assert found["excess_levels"]["largest"] == 40.0
    assert found["step_levels"]["at_switches"]["largest"] == 42.0
    assert found["step_levels"]["elsewhere"]["largest"] == 2.0
    assert found["worst_pixel_levels"] == 40


def received(lost_pictures: set[int], lost_sound: set[int]) -> Received:
    """Two seconds of a call, a few places of which stay empty."""
    return Received(
        video=[(n / 25, 3600 * n, -1, 64, 64) for n in range(50) if n not in lost_pictures],
        sound=[(n / 50, 960 * n, 5, 0) for n in range(100) if n not in lost_sound],
    )


def test_empty_places_of_both_clocks_are_counted() -> None:
    whole = stretch(received(set(), set()), 0.0, 2.0, (STATS, STATS))
    assert (whole.pictures, whole.missing_pictures, whole.lost_sound_ms) == (50, 0, 0)
    assert (whole.longest_gap_ms, whole.longest_sound_gap_ms) == (40.0, 20.0)
    later = dataclasses.replace(STATS, late_hops=2, missing_frames=3)
    holes = stretch(received({20, 21}, {40, 41, 42}), 0.0, 2.0, (STATS, later))
    assert (holes.pictures, holes.missing_pictures, holes.longest_gap_ms) == (48, 2, 120.0)
    assert (holes.lost_sound_ms, holes.longest_sound_gap_ms) == (60, 80.0)
    assert (holes.late_hops, holes.missing_frames, holes.dropped_frames) == (2, 3, 0)
