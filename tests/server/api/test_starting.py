"""A server that is not ready yet answers, and says what it waits for."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import httpx
import pytest
import websockets

from server.api.http_server import http_server
from server.api.starting import answering_meanwhile, starting_app
from server.config import Settings
from server.serving import bind

DOING = "building the plan of unet, 42 of at most 3600 s"
Scenario = Callable[[str], Awaitable[None]]


@pytest.fixture
def run() -> Callable[[Scenario], None]:
    """Runs a scenario with the address of a server that is starting."""

    def run_scenario(scenario: Scenario) -> None:
        async def main() -> None:
            sock = bind("127.0.0.1", 0)
            address = f"127.0.0.1:{sock.getsockname()[1]}"
            async with answering_meanwhile(Settings(), sock, lambda: DOING):
                await scenario(address)
            sock.close()

        asyncio.run(asyncio.wait_for(main(), 20))

    return run_scenario


def test_probes_are_told_what_is_waited_for(run: Callable[[Scenario], None]) -> None:
    async def scenario(address: str) -> None:
        async with httpx.AsyncClient(base_url=f"http://{address}") as client:
            assert (await client.get("/healthz")).json() == {"status": "ok"}
            ready = await client.get("/readyz")
            assert ready.status_code == 503
            assert ready.json() == {"status": "starting", "detail": DOING}

    run(scenario)


def test_callers_are_asked_to_come_again(run: Callable[[Scenario], None]) -> None:
    async def scenario(address: str) -> None:
        async with httpx.AsyncClient(base_url=f"http://{address}") as client:
            refused = await client.post("/v1/sessions?mode=live", content="v=0")
        assert refused.status_code == 503 and int(refused.headers["retry-after"]) > 0
        error = refused.json()["error"]
        assert error["code"] == "engine_not_ready" and DOING in error["message"]
        with pytest.raises(websockets.InvalidStatus) as answer:
            await websockets.connect(f"ws://{address}/v1/media")
        assert answer.value.response.status_code == 503

    run(scenario)


def test_a_browser_is_told_and_loads_again(run: Callable[[Scenario], None]) -> None:
    async def scenario(address: str) -> None:
        accept = {"accept": "text/html,application/xhtml+xml,*/*;q=0.8"}
        async with httpx.AsyncClient(base_url=f"http://{address}", headers=accept) as client:
            page = await client.get("/")
        assert page.text == f"Lipwire is starting: {DOING}.\n"
        assert int(page.headers["refresh"]) > 0

    run(scenario)


def test_the_socket_stays_open_and_whoever_comes_between_is_answered_by_the_server() -> None:
    async def main() -> None:
        sock = bind("127.0.0.1", 0)
        address = f"http://127.0.0.1:{sock.getsockname()[1]}"
        async with answering_meanwhile(Settings(), sock, lambda: DOING):
            pass
        async with httpx.AsyncClient(base_url=address) as client:
            asked = asyncio.create_task(client.get("/readyz"))
            server = http_server(starting_app(lambda: "the other one"), Settings())
            serving = asyncio.create_task(server.serve(sockets=[sock]))
            assert (await asked).json()["detail"] == "the other one"
            server.should_exit = True
            await serving

    asyncio.run(asyncio.wait_for(main(), 20))
