"""A call whose connection is lost goes on over another one."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import httpx
import numpy as np
import pytest

from benchmarks.caller import Received, RecordedCall, an_offer, recorded_call, vanish
from server.api.app import create_app
from server.api.gateway import Gateway
from server.client.capture import Microphone
from server.client.errors import CallEnded
from server.config import Settings
from server.protocol import ReadyMessage
from server.websocket.wire import US_PER_S
from tests.server_fakes import make_avatar

SDP = {"content-type": "application/sdp"}
Scenario = Callable[[httpx.AsyncClient, Gateway, RecordedCall], Awaitable[None]]


def _microphone() -> Microphone:
    noise = np.random.default_rng(0).standard_normal(20 * 48_000)
    return Microphone((noise * 3000).astype(np.int16))


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., None]:
    """Runs a scenario with one call that has its first pictures, and takes all places."""
    make_avatar(tmp_path)
    settings = Settings(
        backend="passthrough", log_level="warning", avatar_dirs=(tmp_path,), max_sessions=1
    )

    def run_scenario(scenario: Scenario, *, resume: bool = False) -> None:
        async def main() -> None:
            gateway = Gateway(settings)
            await gateway.start()
            try:
                transport = httpx.ASGITransport(create_app(gateway))
                async with (
                    httpx.AsyncClient(transport=transport, base_url="http://localhost") as client,
                    recorded_call(
                        "http://localhost",
                        avatar="ada",
                        sound=_microphone(),
                        http=client,
                        resume=resume,
                    ) as caller,
                ):
                    await caller.until(lambda got: bool(got.messages) and len(got.video) > 3)
                    await scenario(client, gateway, caller)
            finally:
                await gateway.stop()

        asyncio.run(main())

    return run_scenario


def _media_lag_s(received: Received) -> float | None:
    """By how much the newest picture's media time lies behind its arrival, from some origin."""
    (arrival, *_), pts_us = received.video[-1], received.video_us[-1]
    return None if pts_us is None else arrival - pts_us / US_PER_S


async def _goes_on(
    gateway: Gateway, caller: RecordedCall, lose: Callable[[], Awaitable[None]]
) -> None:
    ready = caller.call.ready
    assert not ready.resumed and ready.limits.resume_within_s == 14
    await caller.until(lambda got: _media_lag_s(got) is not None)
    before, location = _media_lag_s(caller.received), caller.call.location
    await lose()
    await caller.until(lambda got: len(got.of_type(ReadyMessage)) == 2)
    again = caller.call.ready
    assert again.resumed and again.session == ready.session and caller.call.location == location
    heard, shown = len(caller.received.sound), len(caller.received.video)
    await caller.until(lambda got: len(got.video) > shown + 10)
    await caller.until(lambda got: max(peak for _, _, peak, _ in got.sound[heard:]) > 2000)
    await caller.until(lambda got: _media_lag_s(got) is not None)
    after = _media_lag_s(caller.received)
    assert before is not None and after is not None and abs(after - before) < 0.3
    assert gateway.sessions.count == 1 and gateway.host.restarts == 0


def test_a_lost_call_goes_on_with_its_place_and_its_media_time(run: Callable[..., None]) -> None:
    async def scenario(client: httpx.AsyncClient, gateway: Gateway, caller: RecordedCall) -> None:
        await _goes_on(gateway, caller, lambda: vanish(caller.call))

    run(scenario, resume=True)


def test_a_call_in_which_nothing_comes_is_lost_too(
    run: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("server.client.webrtc_call.LOST_AFTER_S", 0.3)

    async def scenario(client: httpx.AsyncClient, gateway: Gateway, caller: RecordedCall) -> None:
        async def deafen() -> None:
            for transceiver in caller.call.connection.rtc.getTransceivers():
                transceiver.receiver.track.stop()

        await _goes_on(gateway, caller, deafen)

    run(scenario, resume=True)


def test_a_call_that_the_server_has_ended_is_not_resumed(run: Callable[..., None]) -> None:
    async def scenario(client: httpx.AsyncClient, gateway: Gateway, caller: RecordedCall) -> None:
        speaking = asyncio.create_task(caller.call.say(np.ones(48_000 * 20, np.int16)))
        assert (await client.delete(caller.call.location)).status_code == 204
        with pytest.raises(CallEnded, match="there is no session"):
            await speaking
        assert gateway.sessions.count == 0

    run(scenario, resume=True)


def test_without_the_token_or_with_a_bad_offer_nothing_changes(
    run: Callable[..., None],
) -> None:
    async def scenario(client: httpx.AsyncClient, gateway: Gateway, caller: RecordedCall) -> None:
        path, token = f"{caller.call.location}/resume", caller.call.ready.resume_token or ""
        offer = await an_offer()
        unanswerable = offer.replace("a=fingerprint", "a=fingerprints")
        cases: list[tuple[str, dict[str, str], str, int]] = [
            (path, {"resume-token": "guessed"}, offer, 404),
            ("/v1/sessions/none/resume", {"resume-token": token}, offer, 404),
            (path, {}, offer, 422),
            (path, {"resume-token": token}, "{}", 400),
            (path, {"resume-token": token}, unanswerable, 400),
        ]
        for url, headers, body, status in cases:
            response = await client.post(url, content=body, headers={**SDP, **headers})
            assert response.status_code == status, (url, headers)
        count = len(caller.received.video)
        await caller.until(lambda got: len(got.video) > count + 10)
        await client.delete(caller.call.location)
        gone = await client.post(path, content=offer, headers={**SDP, "resume-token": token})
        assert gone.status_code == 404

    run(scenario)


def test_a_resumed_call_that_never_connects_is_freed_when_it_has_been_silent_for_too_long(
    run: Callable[..., None],
) -> None:
    async def scenario(client: httpx.AsyncClient, gateway: Gateway, lost: RecordedCall) -> None:
        headers = {**SDP, "resume-token": lost.call.ready.resume_token or ""}
        path = f"{lost.call.location}/resume"
        response = await client.post(path, content=await an_offer(), headers=headers)
        assert response.status_code == 201
        object.__setattr__(gateway.sessions._settings, "idle_timeout_s", 1.0)
        async with asyncio.timeout(10):
            while gateway.sessions.count:
                await asyncio.sleep(0.02)
        metrics = (await client.get("/metrics")).text
        assert 'lipwire_sessions_ended_total{reason="idle",transport="webrtc"} 1.0' in metrics
        assert "lipwire_sessions_resumed_total 1.0" in metrics

    run(scenario)
