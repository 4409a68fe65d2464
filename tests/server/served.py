"""A gateway behind uvicorn on a port of its own, for tests over real sockets."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from server.api.app import create_app
from server.api.gateway import Gateway
from server.api.http_server import http_server
from server.config import Settings


@asynccontextmanager
async def served(core: str | None = None, **settings: Any) -> AsyncIterator[tuple[str, Gateway]]:
    """The address of a running gateway, and the gateway."""
    defaults: dict[str, Any] = {
        "backend": "passthrough", "log_level": "warning", "calibrate": False
    }  # fmt: skip
    chosen = Settings(**{**defaults, **settings})
    gateway = Gateway(chosen, core)
    await gateway.start()
    listening = socket.create_server(("127.0.0.1", 0))
    server = http_server(create_app(gateway), chosen)
    serving = asyncio.create_task(server.serve(sockets=[listening]))
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}", gateway
    finally:
        await gateway.sessions.close()
        server.should_exit = True
        await serving
        listening.close()
        await gateway.stop()
