"""Which gateway answers what, without any process."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path

import pytest
from starlette.types import Message, Receive, Scope, Send

from server.gateways.messages import GatewayState, ServerState
from server.gateways.router import (
    GatewayRouter,
    gateway_of,
    gateway_of_stream,
    is_for_home,
    least_loaded,
    session_suffix,
)


def _gateways(*sessions: int, down: tuple[int, ...] = ()) -> tuple[GatewayState, ...]:
    return tuple(
        GatewayState(index, index not in down, count, 0) for index, count in enumerate(sessions)
    )


@pytest.mark.parametrize(
    ("path", "gateway"),
    [
        ("/v1/sessions/0a1b-0", 0),
        ("/v1/sessions/0a1b-12", 12),
        ("/v1/sessions/0a1b-3/resume", 3),
        ("/v1/sessions/0a1b", None),
        ("/v1/sessions/0a1b-x", None),
        ("/v1/sessions/0a1b-99999999999", None),
        ("/v1/sessions/a/b-1", None),
        ("/v1/sessions", None),
        ("/v1/avatars/anna-1/poster.jpg", None),
    ],
)
def test_a_sessions_id_says_which_gateway_holds_it(path: str, gateway: int | None) -> None:
    assert gateway_of(path) == gateway


def test_an_id_that_a_gateway_gives_leads_back_to_it() -> None:
    assert gateway_of(f"/v1/sessions/{'f' * 32}{session_suffix(5)}") == 5


@pytest.mark.parametrize(
    ("method", "path", "home"),
    [
        ("POST", "/v1/avatars", True),
        ("DELETE", "/v1/avatars/eve", True),
        ("GET", "/v1/avatars/jobs/1a", False),
        ("GET", "/v1/avatars", False),
        ("GET", "/v1/avatars/eve/poster.jpg", False),
        ("POST", "/v1/tickets", False),
    ],
)
def test_one_gateway_makes_the_avatars_that_are_uploaded(
    method: str, path: str, home: bool
) -> None:
    assert is_for_home(method, path) == home


def test_the_next_call_goes_to_the_gateway_with_the_fewest() -> None:
    assert least_loaded(_gateways(2, 1, 3), Counter(), own=0) == 1


def test_of_equals_the_one_that_was_asked_answers_itself() -> None:
    assert least_loaded(_gateways(1, 1, 1), Counter(), own=2) == 2


def test_calls_on_their_way_count_too() -> None:
    gateways, coming = _gateways(0, 0, 0), Counter[int]()
    chosen = []
    for _ in range(6):
        chosen.append(least_loaded(gateways, coming, own=0))
        coming[chosen[-1]] += 1
    assert sorted(chosen) == [0, 0, 1, 1, 2, 2]


def test_a_gateway_that_is_down_gets_no_call() -> None:
    assert least_loaded(_gateways(5, 0, down=(1,)), Counter(), own=0) == 0
    assert least_loaded(_gateways(0, 0, down=(0, 1)), Counter(), own=1) == 1


def test_publisher_and_viewer_of_a_stream_come_to_one_gateway_and_streams_to_all() -> None:
    holders = set()
    for number in range(50):
        name = f"stage-{number}"
        paths = [f"/v1/whip/{name}", f"/v1/whep/{name}", f"/v1/whep/{name}/0a1b"]
        (holder,) = {gateway_of_stream(path, 3) for path in paths}
        holders.add(holder)
    assert holders == {0, 1, 2}
    assert gateway_of_stream("/v1/sessions/0a1b-1", 3) is None


@pytest.mark.parametrize(("up", "status"), [(True, 201), (False, 503)])
def test_a_stream_waits_for_its_own_gateway_and_comes_to_no_other(up: bool, status: int) -> None:
    states = _gateways(0, 0, down=() if up else (0, 1))
    state = ServerState(states, taken=0, limit=4, capacity=None, engine_restarts=0)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 201})

    async def answered(name: str, own: int) -> int:
        sent: list[Message] = []

        async def keep(message: Message) -> None:
            sent.append(message)

        async def receive() -> Message:
            return {"type": "http.disconnect"}

        path = f"/v1/whep/{name}"
        router = GatewayRouter(app, own, Path("none"), lambda: state)
        await router({"type": "http", "path": path, "method": "POST"}, receive, keep)
        return int(sent[0]["status"])

    holder = gateway_of_stream("/v1/whep/stage", 2)
    assert holder is not None
    assert asyncio.run(answered("stage", holder)) == 201, "its own gateway always answers itself"
    if not up:
        assert asyncio.run(answered("stage", 1 - holder)) == status
