"""A call whose connection is lost goes on over another one."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from benchmarks.caller import Caller, Microphone
from benchmarks.latency import MediaDates
from server.app import Gateway, create_app
from server.config import Settings
from tests.server_fakes import make_avatar

SDP = {"content-type": "application/sdp"}
Scenario = Callable[[httpx.AsyncClient, Gateway, Caller], Awaitable[None]]


def _ready(caller: Caller) -> dict[str, Any]:
    return next(m for m in caller.received.messages if m["type"] == "session.ready")


def _microphone() -> Microphone:
    noise = np.random.default_rng(0).standard_normal(20 * 48_000)
    return Microphone((noise * 3000).astype(np.int16))


@pytest.fixture
def run(tmp_path: Path) -> Callable[[Scenario], None]:
    """Runs a scenario with one call that has its first pictures, and takes all places."""
    make_avatar(tmp_path)
    settings = Settings(
        backend="passthrough", log_level="warning", avatar_dirs=(tmp_path,), max_sessions=1
    )

    def run_scenario(scenario: Scenario) -> None:
        async def main() -> None:
            gateway = Gateway(settings)
            await gateway.start()
            try:
                transport = httpx.ASGITransport(create_app(gateway))
                async with httpx.AsyncClient(transport=transport, base_url="http://t") as client:
                    caller = Caller("http://t", _microphone())
                    await caller.call(client, mode="avatar", avatar="ada")
                    await caller.until(lambda got: bool(got.messages) and len(got.video) > 3)
                    await scenario(client, gateway, caller)
                    await caller.close()
            finally:
                await gateway.stop()

        asyncio.run(main())

    return run_scenario


def _media_date(caller: Caller, dates: MediaDates) -> float | None:
    """By how much the newest picture's media time lies behind its arrival, in seconds."""
    arrival, pts, *_ = caller.received.video[-1]
    dated = dates.date(pts, 90_000)
    return None if dated is None else arrival - dated


def test_a_lost_call_goes_on_with_its_place_and_its_media_time(
    run: Callable[[Scenario], None],
) -> None:
    async def scenario(client: httpx.AsyncClient, gateway: Gateway, lost: Caller) -> None:
        assert not _ready(lost)["resumed"] and _ready(lost)["limits"]["resume_within_s"] == 14.25
        dates = MediaDates(lost, "video")
        await lost.until(lambda got: _media_date(lost, dates) is not None)
        before = _media_date(lost, dates)
        await lost.vanish()
        caller = Caller("http://t", _microphone())
        await caller.resume(client, lost)
        dates = MediaDates(caller, "video")
        assert caller.location == lost.location
        await caller.until(lambda got: bool(got.messages) and len(got.video) > 10)
        ready = _ready(caller)
        assert ready["resumed"] and ready["session"] == _ready(lost)["session"]
        await caller.until(lambda got: max(peak for _, _, peak, _ in got.sound) > 2000)
        await caller.until(lambda got: _media_date(caller, dates) is not None)
        after = _media_date(caller, dates)
        assert before is not None and after is not None and abs(after - before) < 0.3
        assert gateway.sessions.count == 1 and gateway.host.restarts == 0
        assert (await client.delete(caller.location)).status_code == 204
        await caller.close()

    run(scenario)


def test_without_the_token_or_with_a_bad_offer_nothing_changes(
    run: Callable[[Scenario], None],
) -> None:
    async def scenario(client: httpx.AsyncClient, gateway: Gateway, caller: Caller) -> None:
        path, token = f"{caller.location}/resume", _ready(caller)["resume_token"]
        probe = Caller("http://t")
        offer = await probe.offer()
        await probe.close()
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
        await client.delete(caller.location)
        gone = await client.post(path, content=offer, headers={**SDP, "resume-token": token})
        assert gone.status_code == 404

    run(scenario)


def test_a_resumed_call_that_never_connects_is_freed_when_it_has_been_silent_for_too_long(
    run: Callable[[Scenario], None],
) -> None:
    async def scenario(client: httpx.AsyncClient, gateway: Gateway, lost: Caller) -> None:
        never = Caller("http://t")
        offer = await never.offer()
        await never.close()
        headers = {**SDP, "resume-token": _ready(lost)["resume_token"]}
        response = await client.post(f"{lost.location}/resume", content=offer, headers=headers)
        assert response.status_code == 201
        object.__setattr__(gateway.sessions._settings, "idle_timeout_s", 1.0)
        async with asyncio.timeout(10):
            while gateway.sessions.count:
                await asyncio.sleep(0.02)
        metrics = (await client.get("/metrics")).text
        assert 'lipwire_sessions_ended_total{reason="idle"} 1.0' in metrics
        assert "lipwire_sessions_resumed_total 1.0" in metrics

    run(scenario)
