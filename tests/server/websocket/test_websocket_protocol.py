"""A client's frames: what the RFC allows is taken, the rest refused, and nothing without bounds."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from benchmarks.websocket_cases import Case, cases
from benchmarks.websocket_conformance import begin, handshakes, run_case, run_handshake
from server.api.gateway import Gateway
from server.websocket import socket_peer, websocket_protocol
from tests.server.served import served
from tests.server_fakes import make_avatar

EVERY = 11  # of the cases; `python -m benchmarks.websocket_conformance` runs all
ALL_OF = ("9 limits", "13 masking")

Scenario = Callable[[str, Gateway], Awaitable[None]]


@pytest.fixture
def run(tmp_path: Path) -> Callable[[Scenario], None]:
    make_avatar(tmp_path)

    def run_scenario(scenario: Scenario) -> None:
        async def main() -> None:
            unlimited: dict[str, Any] = {"client_sessions": 0, "client_offers_per_minute": 0}
            async with served(avatar_dirs=(tmp_path,), max_sessions=4, **unlimited) as (
                url,
                gateway,
            ):
                async with asyncio.timeout(60):
                    await scenario(url, gateway)
                    while gateway.sessions.count:
                        await asyncio.sleep(0.01)

        asyncio.run(main())

    return run_scenario


def some_cases() -> list[Case]:
    return [
        case for number, case in enumerate(cases()) if number % EVERY == 0 or case.section in ALL_OF
    ]


def test_frames_are_taken_and_refused_as_the_rfc_says(
    run: Callable[[Scenario], None], caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario(url: str, gateway: Gateway) -> None:
        for case in some_cases():
            verdict = await run_case(url, "ada", case)
            assert not verdict.problem, verdict

    run(scenario)
    assert len({case.section for case in some_cases()}) == 9
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


def test_handshakes_are_answered_as_http_says(
    run: Callable[[Scenario], None], caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario(url: str, gateway: Gateway) -> None:
        for name, request, statuses, bytewise in handshakes("ada", url.rsplit("/", 1)[1]):
            verdict = await run_handshake(url, name, request, statuses, bytewise=bytewise)
            assert not verdict.problem, verdict

    run(scenario)
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


def test_a_client_that_reads_nothing_is_rid_of_with_its_connection(
    run: Callable[[Scenario], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(websocket_protocol, "GONE_AFTER_S", 0.1)
    monkeypatch.setattr(socket_peer, "SEND_TIMEOUT_S", 0.2)
    monkeypatch.setattr(socket_peer, "CLOSE_TIMEOUT_S", 0.1)

    async def scenario(url: str, gateway: Gateway) -> None:
        socket = await begin(url, "ada", receive_bytes=4096)
        socket.stop_reading()
        while gateway.sessions.count:
            await asyncio.sleep(0.01)
        # It was told nothing that it could read: the connection ends under it all the same.
        socket.go_on_reading()
        while await socket.read_frame() is not None:
            pass
        await socket.close()

    run(scenario)
