"""Places that are set by what was measured."""

from __future__ import annotations

import asyncio
import dataclasses
import logging

import pytest

from server.capacity.admission import ServerFull
from server.capacity.machine import HopCost
from server.capacity.places import UNMEASURED_SESSIONS, OwnPlaces
from server.config import Settings
from server.engine_link.messages import EngineReady

READY = EngineReady("m", "b", 128, 4, 1320, 30.0, (HopCost(1, 20.0, 1.0),))  # 6.8 calls


def test_as_many_places_as_the_machine_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("server.capacity.places.usable_cores", lambda: 16)
    places = OwnPlaces(Settings())
    assert places.limit == UNMEASURED_SESSIONS and places.capacity is None
    places.set_capacity(READY, call_ms=200.0)
    assert places.limit == 3
    places.set_capacity(READY, call_ms=200.0, gateways=4)
    assert places.limit == 6


def test_the_setting_caps_what_was_measured(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("server.capacity.places.usable_cores", lambda: 16)
    few, many = OwnPlaces(Settings(max_sessions=1)), OwnPlaces(Settings(max_sessions=50))
    with caplog.at_level(logging.WARNING):
        few.set_capacity(READY, 200.0)
        assert not caplog.records
        many.set_capacity(READY, 200.0)
    assert (few.limit, many.limit) == (1, 3)
    assert "holds 3 calls" in caplog.text and "max_sessions 50" in caplog.text


def test_a_slower_backend_after_a_crash_holds_fewer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("server.capacity.places.usable_cores", lambda: 16)
    places = OwnPlaces(Settings())
    places.set_capacity(READY, call_ms=50.0)
    assert places.limit == 6
    again = dataclasses.replace(READY, hop_costs=(), hop_ms=99.0)  # the same, beside calls
    places.set_capacity(again, call_ms=50.0)
    assert places.limit == 6
    slower = dataclasses.replace(READY, backend="other", hop_costs=(), hop_ms=60.0)
    places.set_capacity(slower, call_ms=50.0)
    assert places.limit == 3


def test_a_place_is_taken_given_back_and_refused() -> None:
    async def main() -> None:
        places = OwnPlaces(Settings(max_sessions=1))
        await places.enter("a", None)
        with pytest.raises(ServerFull):
            await places.enter("b", None)
        places.leave("a")
        assert places.taken == 0

    asyncio.run(main())


def test_what_is_measured_anew_counts_from_then_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("server.capacity.places.usable_cores", lambda: 16)
    places = OwnPlaces(Settings())
    places.set_capacity(READY, call_ms=50.0)
    idle = dataclasses.replace(READY, hop_costs=(HopCost(1, 10.0, 1.0),))
    places.set_capacity(idle, call_ms=50.0)
    assert places.limit == 13
    # Another backend, at first scaled, then measured itself.
    switched = dataclasses.replace(READY, backend="better", hop_costs=(), hop_ms=15.0)
    places.set_capacity(switched, call_ms=30.0)
    assert places.limit == 25
    places.set_capacity(dataclasses.replace(switched, hop_costs=(HopCost(1, 8.0, 1.0),)), 30.0)
    assert places.limit == 17
