"""https by two flags."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI, WebSocket, WebSocketDisconnect
from websockets.asyncio.client import connect

from engine.errors import ConfigError
from server.api.http_server import http_server
from server.config import Settings
from server.serving import address_of, bind
from tests.certificates import Certificate, write_certificate


@pytest.fixture
def certificate(tmp_path: Path) -> Certificate:
    return write_certificate(tmp_path)


def test_requests_are_answered_over_https_and_not_in_the_clear(
    certificate: Certificate,
) -> None:
    app = FastAPI()

    @app.get("/")
    async def hello() -> str:
        return "hello"

    async def main() -> None:
        server = http_server(app, Settings(tls_cert=certificate.cert, tls_key=certificate.key))
        with bind("127.0.0.1", 0) as sock:
            assert address_of(sock, secure=True).startswith("https://localhost:")
            port = sock.getsockname()[1]
            serving = asyncio.create_task(server.serve(sockets=[sock]))
            async with httpx.AsyncClient(verify=certificate.trusting()) as client:
                assert (await client.get(f"https://127.0.0.1:{port}/")).json() == "hello"
                with pytest.raises(httpx.TransportError):
                    await client.get(f"http://127.0.0.1:{port}/")
            server.should_exit = True
            await serving

    asyncio.run(main())


def test_a_socket_is_answered_over_wss_and_its_slow_reader_is_waited_for(
    certificate: Certificate,
) -> None:
    app = FastAPI()
    sent = 0

    @app.websocket("/")
    async def flood(socket: WebSocket) -> None:
        nonlocal sent
        await socket.accept()
        await socket.send_text(await socket.receive_text())
        with contextlib.suppress(WebSocketDisconnect):
            while True:
                await socket.send_bytes(bytes(16_384))
                sent += 1

    async def main() -> None:
        settings = Settings(tls_cert=certificate.cert, tls_key=certificate.key)
        server = http_server(app, settings)
        with bind("127.0.0.1", 0) as sock:
            serving = asyncio.create_task(server.serve(sockets=[sock]))
            async with connect(
                f"wss://127.0.0.1:{sock.getsockname()[1]}/",
                ssl=certificate.trusting(),
                max_queue=1,
                compression=None,
            ) as client:
                await client.send("hello")
                assert await client.recv() == "hello"
                before = -1
                while before != sent:  # until neither end's buffers take more
                    before = sent
                    await asyncio.sleep(0.3)
                assert sent < 1000, "what the client does not read is not made"
                for _ in range(before + 20):
                    await client.recv()
            server.should_exit = True
            await serving

    asyncio.run(main())


def test_a_renewed_certificate_is_taken_without_a_restart(
    certificate: Certificate, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("server.api.certificate.LOOK_INTERVAL_S", 0.02)

    async def main() -> None:
        settings = Settings(tls_cert=certificate.cert, tls_key=certificate.key)
        server = http_server(FastAPI(), settings)
        with bind("127.0.0.1", 0) as sock:
            url = f"https://127.0.0.1:{sock.getsockname()[1]}/"
            serving = asyncio.create_task(server.serve(sockets=[sock]))

            async def is_served_to(trusting: ssl.SSLContext) -> bool:
                async with httpx.AsyncClient(verify=trusting) as client:
                    try:
                        return (await client.get(url)).status_code == 404
                    except httpx.ConnectError:
                        return False

            before = certificate.trusting()
            assert await is_served_to(before)
            old_key = certificate.key.read_bytes()
            write_certificate(certificate.cert.parent)
            new_key, after = certificate.key.read_bytes(), certificate.trusting()
            certificate.key.write_bytes(old_key)  # the chain is new, its key is not there yet
            async with asyncio.timeout(10):
                while "are not taken" not in caplog.text:
                    await asyncio.sleep(0.01)
            assert await is_served_to(before) and not await is_served_to(after)
            certificate.key.write_bytes(new_key)
            async with asyncio.timeout(10):
                while not await is_served_to(after):
                    await asyncio.sleep(0.01)
            assert not await is_served_to(before)
            server.should_exit = True
            await serving

    asyncio.run(main())


def test_files_that_are_no_certificate_are_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "cert.pem").write_text("nothing")
    settings = Settings(tls_cert=tmp_path / "cert.pem", tls_key=tmp_path / "absent.pem")
    with pytest.raises(ConfigError, match=r"certificate chain in .*cert\.pem"):
        http_server(FastAPI(), settings)
