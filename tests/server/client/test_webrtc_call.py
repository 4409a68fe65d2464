"""Whole calls through the WebRTC client, over real UDP."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from av import VideoFrame

from server.api.gateway import Gateway
from server.client.capture import I16, U8
from server.client.errors import CallEnded, CallError, CallRefused
from server.client.webrtc_call import WAITING_EVENTS, open_call
from server.client.webrtc_connection import Received, ReceivedPicture, ReceivedSound
from server.protocol import InterruptedMessage, PongMessage, Stats
from tests.server.served import served
from tests.server_fakes import make_avatar

Scenario = Callable[[str, Gateway], Awaitable[None]]


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., None]:
    make_avatar(tmp_path)

    def run_scenario(scenario: Scenario, **settings: Any) -> None:
        async def main() -> None:
            async with served(avatar_dirs=(tmp_path,), **settings) as (url, gateway):
                async with asyncio.timeout(30):
                    await scenario(url, gateway)

        asyncio.run(main())

    return run_scenario


def noise(ms: int) -> I16:
    return (np.random.default_rng(0).standard_normal(48 * ms) * 3000).astype(np.int16)


def is_loud(event: Received) -> bool:
    return isinstance(event, ReceivedSound) and np.abs(event.frame.to_ndarray()).max() > 2000


def test_what_is_said_comes_back_with_pictures_of_the_same_media_time(
    run: Callable[..., None],
) -> None:
    async def scenario(url: str, gateway: Gateway) -> None:
        async with open_call(url, avatar="ada") as call:
            assert call.ready.avatar == "ada" and call.ready.epoch_ntp_us is not None
            talking = asyncio.create_task(call.say(noise(3000)))
            await call.until(is_loud)
            dated = await call.until(lambda e: isinstance(e, ReceivedSound) and bool(e.pts_us))
            picture = await call.until(lambda e: isinstance(e, ReceivedPicture) and bool(e.pts_us))
            assert isinstance(dated, ReceivedSound) and isinstance(picture, ReceivedPicture)
            assert picture.frame.width == 64
            assert picture.pts_us is not None and dated.pts_us is not None
            # Media time counts from the call's beginning, and both arrive as they belong together.
            assert 0 < picture.pts_us < 10_000_000
            apart_s = (picture.pts_us - dated.pts_us) / 1e6 - (picture.arrived - dated.arrived)
            assert abs(apart_s) < 0.2
            await call.until(lambda e: isinstance(e, Stats))
            assert call.stats is not None and call.stats.engine == "ready"
            await call.ping(7)
            assert await call.until(lambda e: isinstance(e, PongMessage)) == PongMessage(7)
            assert await talking

    run(scenario)


def test_an_interrupt_voids_what_is_being_said(run: Callable[..., None]) -> None:
    async def scenario(url: str, gateway: Gateway) -> None:
        async with open_call(url, avatar="ada") as call:
            talking = asyncio.create_task(call.say(noise(20_000)))
            await call.until(is_loud)
            await call.interrupt()
            assert not await talking
            told = await call.until(lambda e: isinstance(e, InterruptedMessage))
            assert told == InterruptedMessage(1)
            for _ in range(20):
                quiet = await call.until(lambda e: isinstance(e, ReceivedSound))
            assert not is_loud(quiet)
            assert await call.say(noise(100))
            await call.until(is_loud)

    run(scenario)


async def pictures() -> AsyncIterator[U8 | VideoFrame]:
    while True:
        yield np.full((120, 160, 3), 90, np.uint8)
        await asyncio.sleep(0.04)


@pytest.mark.parametrize("source", ["pictures", "a file"])
def test_a_camera_of_any_source_comes_back(
    run: Callable[..., None], tmp_path: Path, source: str
) -> None:
    make_avatar(tmp_path / "film", "me", frames=30)
    film = tmp_path / "film" / "me" / "clip.mp4"

    async def scenario(url: str, gateway: Gateway) -> None:
        camera = film if source == "a file" else pictures()
        async with open_call(url, mode="live", camera=camera) as call:
            picture = await call.until(lambda e: isinstance(e, ReceivedPicture))
            assert isinstance(picture, ReceivedPicture)
            size = (64, 48) if source == "a file" else (160, 120)
            assert (picture.frame.width, picture.frame.height) == size
            await call.hang_up()
            async for _ in call:  # ends without an error
                pass

    run(scenario)


def test_a_call_that_is_not_let_in_says_why_and_when_to_come_back(
    run: Callable[..., None],
) -> None:
    async def scenario(url: str, gateway: Gateway) -> None:
        with pytest.raises(CallRefused, match="eve") as caught:
            async with open_call(url, avatar="eve"):
                pass
        assert (caught.value.status, caught.value.code) == (404, "unknown_avatar")
        assert caught.value.retry_after_s is None
        async with open_call(url, avatar="ada", listen_only=True) as call:
            with pytest.raises(CallError, match="expected a call that speaks"):
                await call.say(noise(20))
            with pytest.raises(CallRefused) as caught:
                async with open_call(url, avatar="ada"):
                    pass
            assert (caught.value.status, caught.value.code) == (503, "server_full")
            assert caught.value.retry_after_s
        assert gateway.sessions.count == 0, "the block's end ends the call"

    run(scenario, max_sessions=1)


def test_a_call_that_the_server_ends_raises_why(run: Callable[..., None]) -> None:
    async def scenario(url: str, gateway: Gateway) -> None:
        async with open_call(url, avatar="ada") as call:
            with pytest.raises(CallEnded, match="session_limit: the call's time is up"):
                async for _ in call:
                    pass

    run(scenario, max_session_s=0.5)


def test_who_reads_nothing_misses_media_and_no_message(run: Callable[..., None]) -> None:
    async def scenario(url: str, gateway: Gateway) -> None:
        async with open_call(url, avatar="ada") as call:
            sound = await call.until(lambda e: isinstance(e, ReceivedSound))
            call._take(PongMessage("kept"))
            for _ in range(WAITING_EVENTS + 10):
                call._take(sound)
            assert call.dropped >= 11 and len(call._events) == WAITING_EVENTS
            await call.until(lambda e: e == PongMessage("kept"))

    run(scenario)
