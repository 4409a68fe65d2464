"""SIGTERM: no new calls, and those that are there may end by themselves."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import httpx
import numpy as np
import pytest

from benchmarks.caller import an_offer, recorded_call
from benchmarks.latency import start_server
from server.api.app import create_app
from server.api.gateway import Gateway
from server.client.capture import Microphone
from server.config import Settings
from server.protocol import DrainingMessage
from tests.server_fakes import make_avatar

SDP = {"content-type": "application/sdp"}
ADA = "/v1/sessions?mode=avatar&avatar=ada"
Scenario = Callable[[httpx.AsyncClient, Gateway], Awaitable[None]]


@pytest.fixture
def run(tmp_path: Path) -> Callable[[Scenario], None]:
    make_avatar(tmp_path)

    def run_scenario(scenario: Scenario) -> None:
        async def main() -> None:
            settings = Settings(
                backend="passthrough", log_level="warning", avatar_dirs=(tmp_path,), max_sessions=4
            )
            gateway = Gateway(settings)
            await gateway.start()
            try:
                transport = httpx.ASGITransport(create_app(gateway))
                async with httpx.AsyncClient(
                    transport=transport, base_url="http://localhost"
                ) as client:
                    await scenario(client, gateway)
            finally:
                await gateway.stop()

        asyncio.run(main())

    return run_scenario


async def _begin(client: httpx.AsyncClient) -> str:
    """A call that has been answered and not connected yet; its path."""
    response = await client.post(ADA, content=await an_offer(), headers=SDP)
    assert response.status_code == 201
    return response.headers["location"]


def test_a_draining_server_refuses_new_calls_and_is_done_with_the_last(
    run: Callable[[Scenario], None],
) -> None:
    async def scenario(client: httpx.AsyncClient, gateway: Gateway) -> None:
        location = await _begin(client)
        draining = asyncio.create_task(gateway.sessions.drain(60))
        await asyncio.sleep(0)
        refused = await client.post(ADA, content="v=0", headers=SDP)
        assert refused.status_code == 503 and refused.json()["error"]["code"] == "draining"
        assert int(refused.headers["retry-after"]) > 0
        ready = await client.get("/readyz")
        assert (ready.status_code, ready.json()) == (503, {"status": "draining"})
        assert (await client.get("/healthz")).status_code == 200
        assert not draining.done()
        assert (await client.delete(location)).status_code == 204
        await asyncio.wait_for(draining, 5)

    run(scenario)


def test_draining_gives_up_on_calls_that_do_not_end(run: Callable[[Scenario], None]) -> None:
    async def scenario(client: httpx.AsyncClient, gateway: Gateway) -> None:
        await _begin(client)
        await asyncio.wait_for(gateway.sessions.drain(0.05), 5)
        assert gateway.sessions.count == 1
        await gateway.sessions.close()
        assert gateway.sessions.count == 0

    run(scenario)


def test_a_call_is_told_and_goes_on_until_it_ends_itself(run: Callable[[Scenario], None]) -> None:
    async def scenario(client: httpx.AsyncClient, gateway: Gateway) -> None:
        microphone = Microphone(np.zeros(48_000, np.int16))
        async with recorded_call(
            "http://localhost", avatar="ada", sound=microphone, http=client
        ) as caller:
            await caller.until(lambda got: bool(got.messages) and len(got.video) > 3)
            draining = asyncio.create_task(gateway.sessions.drain(60))
            await caller.until(lambda got: bool(got.of_type(DrainingMessage)))
            assert caller.received.of_type(DrainingMessage) == [DrainingMessage(60)]
            count = len(caller.received.video)
            await caller.until(lambda got: len(got.video) > count + 10)
            await caller.call.hang_up()
            await asyncio.wait_for(draining, 10)

    run(scenario)


@pytest.mark.parametrize("hurry", [False, True], ids=["the call ends", "a second signal"])
def test_sigterm_waits_for_calls_and_a_second_one_does_not(tmp_path: Path, hurry: bool) -> None:
    make_avatar(tmp_path)

    async def main() -> None:
        arguments = ["--backend", "passthrough", "--avatars", str(tmp_path), "--log-level", "error"]
        process, address, _ = await start_server(arguments, stock=False)
        try:
            async with httpx.AsyncClient(base_url=address, timeout=30) as client:
                location = await _begin(client)
                process.terminate()
                async with asyncio.timeout(10):
                    while (await client.get("/readyz")).json() != {"status": "draining"}:
                        await asyncio.sleep(0.01)
                if hurry:
                    process.terminate()
                else:
                    assert (await client.delete(location)).status_code == 204
            assert await asyncio.wait_for(process.wait(), 8) == 0
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()

    asyncio.run(main())


@pytest.mark.skipif(sys.platform != "linux", reason="looks at /dev/shm and /proc")
def test_a_gateway_that_is_killed_leaves_neither_engine_nor_shared_memory(tmp_path: Path) -> None:
    make_avatar(tmp_path)

    async def main() -> None:
        arguments = ["--backend", "passthrough", "--avatars", str(tmp_path), "--log-level", "error"]
        process, address, _ = await start_server(arguments, stock=False)
        async with httpx.AsyncClient(base_url=address, timeout=30) as client:
            await _begin(client)
        listed = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        blocks = list(Path("/dev/shm").glob(f"lipwire-{process.pid}-*"))
        assert listed and len(blocks) == 1
        os.kill(process.pid, signal.SIGKILL)
        await process.wait()
        async with asyncio.timeout(20):
            while any(block.exists() for block in blocks) or any(map(_runs, listed)):
                await asyncio.sleep(0.02)

    asyncio.run(main())


def _runs(pid: str) -> bool:
    """Whether a process is there and no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False
