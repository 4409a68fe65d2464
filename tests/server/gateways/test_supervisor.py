"""Two gateways behind one port, over one engine: real processes, real calls."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus
from websockets.typing import Subprotocol

from benchmarks.caller import Camera, RecordedCall, an_offer, recorded_call
from server.access.auth import Tokens
from server.capacity.machine import Capacity
from server.client.capture import Microphone
from server.client.errors import CallRefused
from server.client.socket_call import open_call
from server.config import Settings
from server.gateways.messages import (
    EnterPlace,
    LeavePlace,
    PlaceGiven,
    PlaceRefused,
    ServerState,
)
from server.gateways.router import gateway_of
from server.gateways.supervisor import GatewayUnavailable, Supervisor, Worker
from server.serving import address_of, bind
from server.websocket.wire import Packet
from tests.server_fakes import make_avatar

Scenario = Callable[[httpx.AsyncClient, Supervisor], Awaitable[None]]
FRAME_TICKS = 3600


def _run(scenario: Scenario, **settings: Any) -> None:
    async def main() -> None:
        defaults: dict[str, Any] = {
            "backend": "passthrough",
            "gateways": 2,
            "max_sessions": 3,
            "log_level": "warning",
        }
        sock = bind("127.0.0.1", 0)
        supervisor = Supervisor(Settings(**{**defaults, **settings}), sock)
        try:
            await supervisor.start()
            # A connection for each request: any gateway may take it, and one may be killed.
            alone = httpx.Limits(max_keepalive_connections=0)
            address = address_of(sock)
            async with httpx.AsyncClient(base_url=address, timeout=20, limits=alone) as client:
                await scenario(client, supervisor)
            await supervisor.drain(0)
        finally:
            sock.close()
            await supervisor.stop()

    asyncio.run(main())


def _call(client: httpx.AsyncClient) -> AbstractAsyncContextManager[RecordedCall]:
    picture = np.full((240 * 3 // 2, 320), 128, np.uint8)
    noise = np.random.default_rng(0).standard_normal(60 * 48_000)
    microphone = Microphone((noise * 3000).astype(np.int16))
    camera = Camera(lambda _: picture)
    return recorded_call("", mode="live", sound=microphone, camera=camera, http=client)


async def _shown_call(client: httpx.AsyncClient, calls: AsyncExitStack) -> RecordedCall:
    caller = await calls.enter_async_context(_call(client))
    await caller.until(lambda got: len(got.video) > 10, 30)
    return caller


async def _until(condition: Callable[[], Awaitable[bool]], timeout_s: float = 30) -> None:
    async with asyncio.timeout(timeout_s):
        while not await condition():
            await asyncio.sleep(0.02)


async def _sessions(client: httpx.AsyncClient) -> dict[str, Any]:
    sessions: dict[str, Any] = (await client.get("/v1/status")).json()["sessions"]
    return sessions


def _blocks(pid: int) -> list[Path]:
    return list(Path("/dev/shm").glob(f"lipwire-{pid}-*"))


def test_a_gateways_death_costs_its_own_call_a_reconnect_and_no_more() -> None:
    async def scenario(client: httpx.AsyncClient, supervisor: Supervisor) -> None:
        async with AsyncExitStack() as calls:
            await with_calls(client, supervisor, calls)

    async def with_calls(
        client: httpx.AsyncClient, supervisor: Supervisor, calls: AsyncExitStack
    ) -> None:
        callers = [await _shown_call(client, calls) for _ in range(2)]
        holders = [gateway_of(caller.call.location) for caller in callers]
        assert sorted(holders, key=str) == [0, 1], "calls are spread"
        lost, kept = callers
        lost_at = holders[0]
        assert lost_at is not None
        pid = supervisor.gateway_pids[lost_at]
        assert pid is not None and _blocks(pid)
        os.kill(pid, signal.SIGKILL)
        seen = len(kept.received.video)

        async def replaced() -> bool:
            told = await _sessions(client)
            given_back = told["gateways"][lost_at]["restarts"] == 1 and told["active"] == 1
            return given_back and not _blocks(pid)

        await _until(replaced)
        again = await _shown_call(client, calls)
        assert (await client.delete(lost.call.location)).status_code == 404
        await kept.until(lambda got: len(got.video) > seen + 50, 30)
        pts = [pts for _, pts, *_ in kept.received.video[seen:]]
        steps = [(later - earlier) // FRAME_TICKS for earlier, later in pairwise(pts)]
        # A machine with other work drops a picture now and then; a call that lost its gateway
        # would show none any more.
        assert min(steps) == 1 and sum(step > 1 for step in steps) <= len(steps) // 10, steps
        status = (await client.get("/v1/status")).json()
        assert status["engine"]["restarts"] == 0 and status["sessions"]["active"] == 2
        metrics = (await client.get("/metrics")).text
        assert f'lipwire_gateway_restarts_total{{gateway="{lost_at}"}} 1.0' in metrics
        for caller in (kept, again):
            assert (await client.delete(caller.call.location)).status_code == 204

    _run(scenario)


def test_one_admission_for_all_gateways_and_any_of_them_ends_any_call() -> None:
    async def scenario(client: httpx.AsyncClient, supervisor: Supervisor) -> None:
        offer = await an_offer(speaks=True)
        async with _call(client) as one, _call(client) as other:
            await asked_when_full(client, offer, [one.call.location, other.call.location])

    async def asked_when_full(client: httpx.AsyncClient, offer: str, locations: list[str]) -> None:
        headers = {"content-type": "application/sdp"}
        refused = [
            await client.post("/v1/sessions?mode=live", content=offer, headers=headers)
            for _ in range(4)  # whichever gateway accepts the connection
        ]
        assert {answer.status_code for answer in refused} == {503}
        assert {answer.json()["error"]["code"] for answer in refused} == {"server_full"}
        assert all(int(answer.headers["retry-after"]) > 0 for answer in refused)
        for location in locations:
            assert (await client.delete(location)).status_code == 204
            assert (await client.delete(location)).status_code == 404
        assert (await _sessions(client))["active"] == 0
        for path in ("none", "a-0", "a-1", "a-7"):
            answer = await client.delete(f"/v1/sessions/{path}")
            assert (answer.status_code, answer.json()["error"]["code"]) == (404, "unknown_session")
        large = "v=0\r\n" + "a=x\r\n" * 20_000
        for _ in range(3):
            answer = await client.post("/v1/sessions?mode=live", content=large, headers=headers)
            assert answer.status_code == 413
        assert (await client.get("/readyz")).status_code == 200
        page = (await client.get("/metrics")).text
        assert 'lipwire_sessions{gateway="0"}' in page and 'lipwire_sessions{gateway="1"}' in page
        assert (await client.get("/gateway/metrics")).status_code == 404, "for gateways only"
        taken = await client.post("/v1/sessions?mode=live", content=offer, headers=headers)
        assert taken.status_code == 201

    _run(scenario, max_sessions=2)


@pytest.mark.slow
def test_a_gateway_that_hangs_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("server.gateways.supervisor.SILENT_S", 3.0)

    async def scenario(client: httpx.AsyncClient, supervisor: Supervisor) -> None:
        pid = supervisor.gateway_pids[1]
        assert pid is not None
        os.kill(pid, signal.SIGSTOP)

        async def replaced() -> bool:
            return supervisor.gateway_pids[1] not in (pid, None)

        await _until(replaced)

    _run(scenario)


def test_tokens_are_asked_for_by_every_gateway_for_everything(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("LIPWIRE_TOKEN_SECRET", "s" * 40)
    token = Tokens(b"s" * 40).issue(["admin"], 60)

    async def scenario(client: httpx.AsyncClient, supervisor: Supervisor) -> None:
        offer = await an_offer(speaks=True)
        headers = {"content-type": "application/sdp"}
        for _ in range(4):
            for answer in (
                await client.get("/metrics"),
                await client.delete("/v1/sessions/a-1"),
                await client.post("/v1/sessions?mode=live", content=offer, headers=headers),
            ):
                assert answer.status_code == 401
        headers["authorization"] = f"Bearer {token}"
        answer = await client.post("/v1/sessions?mode=live", content=offer, headers=headers)
        assert answer.status_code == 201
        metrics = await client.get("/metrics", headers=headers)
        assert 'lipwire_gateway_up{gateway="1"} 1.0' in metrics.text
        location = answer.headers["location"]
        assert (await client.delete(location)).status_code == 401
        assert (await client.delete(location, headers=headers)).status_code == 204

    _run(scenario, auth="on")


def test_a_ticket_is_taken_once_whichever_gateways_it_comes_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LIPWIRE_TOKEN_SECRET", "s" * 40)
    token = Tokens(b"s" * 40).issue(["call"], 60)
    make_avatar(tmp_path)

    async def scenario(client: httpx.AsyncClient, supervisor: Supervisor) -> None:
        headers = {"authorization": f"Bearer {token}"}
        address = str(client.base_url.join("/v1/media?avatar=ada")).replace("http", "ws", 1)

        async def knock(ticket: str) -> str:
            offered = [Subprotocol("lipwire.v1"), Subprotocol(f"lipwire.ticket.{ticket}")]
            try:
                async with connect(address, subprotocols=offered) as socket:
                    await socket.send('{"type":"session.start"}')
                    await socket.recv()
                    return "let in"
            except InvalidStatus as refused:
                assert refused.response.status_code == 401 and refused.response.body
                return str(json.loads(refused.response.body)["error"]["code"])

        for _ in range(3):
            ticket = (await client.post("/v1/tickets", headers=headers)).json()["ticket"]
            told = await asyncio.gather(*(knock(ticket) for _ in range(8)))
            assert sorted(told) == ["let in"] + ["ticket_taken"] * 7

    _run(scenario, auth="on", max_sessions=10, avatar_dirs=(tmp_path,))


def test_calls_over_websockets_are_spread_too_and_refused_with_a_reason(tmp_path: Path) -> None:
    make_avatar(tmp_path)

    async def scenario(client: httpx.AsyncClient, supervisor: Supervisor) -> None:
        async with AsyncExitStack() as calls:
            base = str(client.base_url)
            for _ in range(4):
                call = await calls.enter_async_context(open_call(base, avatar="ada"))
                assert call.ready.mode == "avatar"
            told = await _sessions(client)
            assert [gateway["active"] for gateway in told["gateways"]] == [2, 2]
            for _ in range(3):  # whichever gateway accepts the connection
                with pytest.raises(CallRefused) as refused:
                    await calls.enter_async_context(open_call(base, avatar="ada"))
                told_why = (refused.value.status, refused.value.code)
                assert told_why == (503, "server_full") and refused.value.retry_after_s
            assert await call.say(np.zeros(9_600, np.int16))
            await call.until(lambda event: isinstance(event, Packet))

        async def all_gone() -> bool:
            return bool((await _sessions(client))["active"] == 0)

        await _until(all_gone)

    _run(scenario, max_sessions=4, avatar_dirs=(tmp_path,))


def _ends_at_once(*_: object) -> None:
    """A gateway that never gets anywhere; at the top of the module, so that it can be spawned."""


@pytest.mark.slow
def test_gateways_that_end_while_they_start_end_the_server(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("server.gateways.supervisor.run_gateway", _ends_at_once)
    monkeypatch.setattr("server.gateways.supervisor.BACKOFF_S", (0.0,))

    async def scenario(client: httpx.AsyncClient, supervisor: Supervisor) -> None:
        raise AssertionError("expected no start")

    with pytest.raises(GatewayUnavailable, match="while it was starting"):
        _run(scenario)


class Told:
    """A link that keeps what is sent over it."""

    def __init__(self) -> None:
        self.messages: list[object] = []

    def send(self, message: object) -> None:
        self.messages.append(message)

    def answers(self) -> list[object]:
        return [m for m in self.messages if isinstance(m, PlaceGiven | PlaceRefused)]


def test_a_gateway_gets_no_more_calls_than_it_holds_by_itself() -> None:
    async def main() -> None:
        sock = bind("127.0.0.1", 0)
        supervisor = Supervisor(Settings(max_sessions=10, gateways=2), sock)
        try:
            links = [Told(), Told()]
            workers = [Worker(0), Worker(1)]
            for worker, link in zip(workers, links, strict=True):
                worker.link = link  # type: ignore[assignment]
            supervisor._workers = workers
            supervisor.places.capacity = Capacity(engine=9.0, gateways=4.0, cores=9.0)
            for name in "abc":
                supervisor._take(workers[0], EnterPlace(name, None))
            supervisor._take(workers[1], EnterPlace("d", None))
            assert links[0].answers() == [
                PlaceGiven("a"),
                PlaceGiven("b"),
                PlaceRefused("c", 1, supervisor.places.limit),
            ]
            assert links[1].answers() == [PlaceGiven("d")]
            state = links[1].messages[-1]
            assert isinstance(state, ServerState) and state.taken == 3
            assert [gateway.sessions for gateway in state.gateways] == [2, 1]
            supervisor._take(workers[0], LeavePlace("a"))
            supervisor._take(workers[0], EnterPlace("e", None))
            assert links[0].answers()[-1] == PlaceGiven("e")
            for worker in workers:
                worker.link = None
        finally:
            sock.close()
            await supervisor.stop()

    asyncio.run(main())
