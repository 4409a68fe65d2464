"""https with two gateways: what clients do, whichever process a connection comes to."""

from __future__ import annotations

import asyncio
import stat
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from websockets.asyncio.client import connect
from websockets.typing import Origin, Subprotocol

from benchmarks.caller import an_offer
from server.access.auth import Tokens
from server.config import Settings
from server.gateways.supervisor import Supervisor
from server.serving import address_of, bind
from tests.certificates import Certificate, write_certificate
from tests.server_fakes import make_avatar

Scenario = Callable[[httpx.AsyncClient, Supervisor], Awaitable[None]]
SECRET = b"s" * 32
ATTEMPTS = 4  # connections, each to either gateway


def _run(certificate: Certificate, scenario: Scenario, **settings: Any) -> None:
    async def main() -> None:
        sock = bind("127.0.0.1", 0)
        supervisor = Supervisor(
            Settings(
                backend="passthrough",
                gateways=2,
                calibrate=False,
                max_sessions=20,
                log_level="warning",
                tls_cert=certificate.cert,
                tls_key=certificate.key,
                **settings,
            ),
            sock,
        )
        try:
            await supervisor.start()
            alone = httpx.Limits(max_keepalive_connections=0)
            address = address_of(sock, secure=True).replace("localhost", "127.0.0.1")
            async with httpx.AsyncClient(
                base_url=address, verify=certificate.trusting(), timeout=20, limits=alone
            ) as client:
                await scenario(client, supervisor)
            await supervisor.drain(0)
        finally:
            sock.close()
            await supervisor.stop()

    asyncio.run(main())


def test_calls_sockets_and_uploads_over_https_at_every_gateway(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LIPWIRE_TOKEN_SECRET", SECRET.decode())
    make_avatar(tmp_path / "avatars")
    certificate = write_certificate(tmp_path)
    token = Tokens(SECRET).issue(["call", "avatars:write"], 600)
    bearer = {"Authorization": f"Bearer {token}"}

    async def scenario(client: httpx.AsyncClient, supervisor: Supervisor) -> None:
        client.headers.update(bearer)
        await _call_and_hang_up(client)
        await _say_hello_over_a_socket(client, certificate)
        await _upload(client)
        for path in supervisor._folder.glob("*.sock"):
            assert stat.S_IMODE(path.stat().st_mode) == 0o600, path.name
        assert stat.S_IMODE(supervisor._folder.stat().st_mode) == 0o700
        assert len(list(supervisor._folder.glob("*.sock"))) == 3

    _run(
        certificate,
        scenario,
        auth="on",
        avatar_dirs=(tmp_path / "avatars",),
        uploads_dir=tmp_path / "uploads",
    )


async def _call_and_hang_up(client: httpx.AsyncClient) -> None:
    held = set()
    for _ in range(2):
        begun = await client.post(
            "/v1/sessions",
            params={"avatar": "ada"},
            content=await an_offer(),
            headers={"Content-Type": "application/sdp"},
        )
        assert begun.status_code == 201, begun.text
        held.add(begun.headers["location"])
    assert {location[-1] for location in held} == {"0", "1"}, "calls are spread"
    for location in held:
        assert (await client.delete(location)).status_code == 204


async def _say_hello_over_a_socket(client: httpx.AsyncClient, certificate: Certificate) -> None:
    origin = str(client.base_url).rstrip("/")
    for _ in range(ATTEMPTS):
        made = await client.post("/v1/tickets", headers={"Origin": origin})
        assert made.status_code == 201, "the page's own origin is https"
        async with connect(
            origin.replace("https", "wss") + "/v1/media?avatar=ada",
            ssl=certificate.trusting(),
            origin=Origin(origin),
            subprotocols=[
                Subprotocol("lipwire.v1"),
                Subprotocol("lipwire.ticket." + made.json()["ticket"]),
            ],
        ) as call:
            await call.send('{"type": "session.start"}')
            while not isinstance(told := await call.recv(), str):
                pass  # sound may come before
            assert '"session.ready"' in told


async def _upload(client: httpx.AsyncClient) -> None:
    for number in range(2):
        body = b"\x00\x00\x00\x20ftypisom" + bytes(range(256)) * 40  # takes no decoder's time
        taken = await client.post("/v1/avatars", params={"name": f"eve-{number}"}, content=body)
        assert taken.status_code == 202, taken.text
        async with asyncio.timeout(60):
            while (job := (await client.get(taken.json()["href"])).json())["state"] != "failed":
                await asyncio.sleep(0.05)
        assert "expected a video that can be read" in job["message"]
