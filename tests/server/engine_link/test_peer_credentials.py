"""Only processes of the server's own user are heard on its Unix sockets."""

from __future__ import annotations

import asyncio
import os
import socket
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI

from server.api.http_server import http_server
from server.config import Settings
from server.engine_link.peer_credentials import is_own_user


def test_the_user_at_the_other_end_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        assert is_own_user(ours)
        monkeypatch.setattr("os.geteuid", lambda: os.getuid() + 1)
        assert not is_own_user(ours)


def test_http_on_a_unix_socket_is_for_the_servers_own_user(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = FastAPI()

    @app.get("/")
    async def hello() -> str:
        return "hello"

    async def main() -> None:
        path = tmp_path / "gateway.sock"
        server = http_server(app, Settings(), uds=path)
        serving = asyncio.create_task(server.serve())
        while not server.started:
            await asyncio.sleep(0.01)

        async def ask() -> object:
            transport = httpx.AsyncHTTPTransport(uds=str(path))
            async with httpx.AsyncClient(transport=transport) as client:
                return (await client.get("http://gateway/")).json()

        assert await ask() == "hello"
        monkeypatch.setattr("os.geteuid", lambda: os.getuid() + 1)
        with pytest.raises(httpx.TransportError):
            await ask()
        server.should_exit = True
        await serving

    asyncio.run(main())
