"""What a call costs its gateway: estimated, then counted."""

from __future__ import annotations

from pathlib import Path

import pytest

from server.capacity.gateway_calibration import CallCost, measure_call_ms
from tests.server_fakes import make_avatar


class Hands:
    """A clock that is set by hand."""

    value = 0.0

    def __call__(self) -> float:
        return self.value


def test_larger_pictures_cost_more(tmp_path: Path) -> None:
    make_avatar(tmp_path, frames=12)
    small = measure_call_ms(tmp_path / "ada" / "clip.mp4")  # 64 x 48
    assert 0 < small < measure_call_ms(None)


def test_what_calls_cost_is_known_after_half_a_minute_of_them() -> None:
    wall, cpu = Hands(), Hands()
    cost = CallCost(wall, cpu)
    for _ in range(2):
        wall.value += 5
        cpu.value += 2.25  # three calls of 150 ms a second
        cost.note(3)
        known = cost.call_ms
    assert known == pytest.approx(150)
    assert cost.share == pytest.approx(0.45)


def test_time_without_calls_costs_no_call_anything() -> None:
    wall, cpu = Hands(), Hands()
    cost = CallCost(wall, cpu)
    for _ in range(100):
        wall.value += 5
        cpu.value += 5
        cost.note(0)
    assert cost.call_ms is None and cost.share == 1.0


def test_later_calls_change_the_figure_slowly() -> None:
    wall, cpu = Hands(), Hands()
    cost = CallCost(wall, cpu)
    for spent in (3.0, 6.0):  # 100, then 200 ms of a call a second
        wall.value += 30
        cpu.value += spent
        cost.note(1)
    assert cost.call_ms == pytest.approx(110)
