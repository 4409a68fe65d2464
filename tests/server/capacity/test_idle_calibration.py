"""What calls cost is measured again when there are none, and the best measurement counts."""

from __future__ import annotations

from collections.abc import Sequence

from server.capacity.idle_calibration import (
    FIRST_PAUSE_S,
    IDLE_S,
    LONGEST_PAUSE_S,
    REMEMBERED,
    HopCosts,
    IdleCalibration,
    IdleTimer,
)
from server.capacity.machine import HopCost


class Clock:
    """A clock that is set."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Machine:
    """Measures hops that take `wall_ms` a frame just now.

    Attributes:
        measured: the lengths, in turn.
    """

    def __init__(self) -> None:
        self.wall_ms = 10.0
        self.measured: list[int] = []

    def __call__(self, length: int) -> Sequence[HopCost]:
        self.measured.append(length)
        return (HopCost(1, self.wall_ms * length, 1.0),)


def test_the_pauses_between_measurements_grow_to_a_limit() -> None:
    clock = Clock()
    timer = IdleTimer(clock)
    began, at = clock.now, []
    for _ in range(4000):
        clock.now += 1.0
        if timer.due(calls=0):
            at.append(clock.now - began)
    assert at[:4] == [FIRST_PAUSE_S, 3 * FIRST_PAUSE_S, 7 * FIRST_PAUSE_S, 15 * FIRST_PAUSE_S]
    assert at[-1] - at[-2] == LONGEST_PAUSE_S


def test_nothing_is_measured_while_calls_run_or_have_just_ended() -> None:
    clock = Clock()
    timer = IdleTimer(clock)
    for _ in range(1000):
        clock.now += 1.0
        assert not timer.due(calls=1)
    clock.now += IDLE_S - 0.1
    assert not timer.due(calls=0)
    clock.now += 0.1
    assert timer.due(calls=0)


def step_until_complete(calibration: IdleCalibration, lengths: Sequence[int]) -> HopCosts:
    for _ in lengths[1:]:
        assert calibration.step(0, lengths) is None
    found = calibration.step(0, lengths)
    assert found is not None
    return found


def test_one_length_is_measured_at_a_time_so_that_a_call_waits_for_one_only() -> None:
    clock, machine = Clock(), Machine()
    calibration = IdleCalibration(machine, clock)
    assert calibration.step(0, [4, 1, 2]) is None and machine.measured == []
    clock.now += FIRST_PAUSE_S
    found = step_until_complete(calibration, [4, 1, 2])
    assert sorted(machine.measured) == [1, 2, 4]
    assert {length: costs[0].wall_ms for length, costs in found.items()} == {
        1: 10.0,
        2: 20.0,
        4: 40.0,
    }


def test_a_call_that_comes_meanwhile_ends_the_measurement() -> None:
    clock, machine = Clock(), Machine()
    calibration = IdleCalibration(machine, clock)
    clock.now += FIRST_PAUSE_S
    assert calibration.step(0, [4, 1, 2]) is None
    assert calibration.step(1, [4, 1, 2]) is None
    assert len(machine.measured) == 1
    clock.now += IDLE_S
    assert calibration.step(0, [4, 1, 2]) is None and len(machine.measured) == 1


def test_a_start_on_a_busy_machine_is_corrected_and_one_busy_moment_takes_nothing_away() -> None:
    clock, machine = Clock(), Machine()
    calibration = IdleCalibration(machine, clock)
    calibration.note({4: (HopCost(1, 200.0, 1.0),)})
    walls_ms = []
    for wall_ms in (10.0, 30.0, 30.0, 30.0, 30.0):
        machine.wall_ms = wall_ms
        clock.now += LONGEST_PAUSE_S
        walls_ms.append(step_until_complete(calibration, [4])[4][0].wall_ms)
    # A machine that stays busy is believed when the last measurements all say so.
    assert walls_ms == [40.0] * REMEMBERED + [120.0] * 2


def test_another_backend_is_measured_as_soon_as_no_call_runs() -> None:
    clock, machine = Clock(), Machine()
    calibration = IdleCalibration(machine, clock)
    calibration.note({4: (HopCost(1, 1.0, 1.0),)})
    calibration.restart()
    assert calibration.step(1, [4]) is None
    clock.now += IDLE_S
    assert step_until_complete(calibration, [4])[4][0].wall_ms == 40.0
