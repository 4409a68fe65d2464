"""A start that builds plans is given time for them, and says how far it is."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
from pathlib import Path

import pytest

from engine.plans.cache import PlanCache
from engine.plans.events import PlanEvent
from server.engine_link import host
from server.engine_link.host import EngineHost, EngineUnavailable
from server.engine_link.messages import EngineSettings
from server.engine_link.start import EngineStart
from tests.server_fakes import engine_settings

TIMEOUT_S = 30.0


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_time_spent_building_does_not_count_against_the_limit_of_loading() -> None:
    clock = Clock()
    start = EngineStart(3600.0, 120.0, clock)
    clock.now += 20
    assert start.remaining_s == 100.0
    assert start.describe() == "loading the model, 20 of at most 120 s"
    start.note(PlanEvent("loaded", "audio_encoder"))
    assert start.remaining_s == 100.0
    start.note(PlanEvent("building", "unet"))
    clock.now += 1000
    assert (start.building, start.remaining_s) == ("unet", 2600.0)
    assert start.describe() == "building the plan of unet, 1000 of at most 3600 s"
    start.note(PlanEvent("built", "unet"))
    assert start.remaining_s == 100.0, "loading goes on where it stood"
    clock.now += 10
    start.note(PlanEvent("building", "codec_decoder"))
    clock.now += 100
    told = "building the plan of codec_decoder, 1 built before it, 1100 of at most 3600 s"
    assert start.describe() == told
    start.note(PlanEvent("built", "codec_decoder"))
    assert start.remaining_s == 90.0


def test_each_limit_is_named_when_it_is_reached() -> None:
    clock = Clock()
    start = EngineStart(3600.0, 120.0, clock)
    clock.now += 121
    assert start.remaining_s == 0.0
    assert start.overdue() == "expected the engine to load within 120 s, it did not"
    start = EngineStart(3600.0, 120.0, clock)
    start.note(PlanEvent("building", "unet"))
    clock.now += 3601
    assert start.remaining_s == 0.0
    assert "plans to be built within 3600 s, and that of unet is not" in start.overdue()
    assert "plan_build_timeout_s" in start.overdue() and "lipwire plans build" in start.overdue()


def building_settings(release: Path, build_timeout_s: float) -> EngineSettings:
    """Of an engine that builds the plan of a U-Net until a file is there."""
    return dataclasses.replace(
        engine_settings("BuildingCore"),
        model=str(release),
        plans=PlanCache(release.parent / "plans"),
        build_timeout_s=build_timeout_s,
    )


def test_who_waits_for_a_plan_is_told_so_until_it_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(host, "PROGRESS_INTERVAL_S", 0.01)
    caplog.set_level(logging.INFO)

    async def main() -> None:
        host = EngineHost(building_settings(tmp_path / "built", 500.0))
        starting = asyncio.create_task(host.start())
        async with asyncio.timeout(TIMEOUT_S):
            while "building the plan of unet" not in caplog.text:
                await asyncio.sleep(0.01)
        assert host.starting.building == "unet" and host.state == "starting"
        assert host.describe_start().startswith("building the plan of unet, ")
        assert "of at most 500 s" in host.describe_start()
        assert not starting.done()
        (tmp_path / "built").touch()
        await asyncio.wait_for(starting, TIMEOUT_S)
        assert host.ready is not None
        await host.stop()

    asyncio.run(main())


def test_a_plan_that_takes_too_long_is_given_up_with_what_to_do(tmp_path: Path) -> None:
    async def main() -> None:
        host = EngineHost(building_settings(tmp_path / "never", 0.1))
        with pytest.raises(EngineUnavailable, match=r"of unet is not: raise plan_build_timeout_s"):
            await asyncio.wait_for(host.start(), TIMEOUT_S)
        assert host.pid is None, "the process is gone"
        await host.stop()

    asyncio.run(main())
