"""What requests are answered while the engine starts, which may have a plan to build first.

Who opens the page too early sees that it is coming, and the page when it has come; a probe of
`/readyz` is told what is being waited for.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from server.api.http_server import http_server
from server.api.refusals import STARTING_RETRY_S, Refusal
from server.config import Settings

RELOAD_S = "2"


def starting_app(describe: Callable[[], str]) -> ASGIApp:
    """Answers for a server that cannot take calls yet.

    Args:
        describe: what it is doing.
    """

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await receive()  # websocket.connect
            await _refusal(describe())(scope, receive, send)
        elif scope["type"] == "http":
            await _answer(Request(scope), describe())(scope, receive, send)

    return app


@asynccontextmanager
async def answering_meanwhile(
    settings: Settings, sock: socket.socket, describe: Callable[[], str]
) -> AsyncIterator[None]:
    """Answers on a listening socket for the time of a `with` block, and leaves it open.

    Raises:
        ConfigError: certificate or key cannot be used.
    """
    server = http_server(starting_app(describe), settings)
    answering = asyncio.create_task(server.serve(sockets=[sock.dup()]), name="starting")
    try:
        yield
    finally:
        server.should_exit = True
        await asyncio.gather(answering, return_exceptions=True)


def _answer(request: Request, doing: str) -> Response:
    path = request.url.path
    if path == "/healthz":
        return JSONResponse({"status": "ok"})
    if path == "/readyz":
        return JSONResponse({"status": "starting", "detail": doing}, 503)
    if "text/html" in request.headers.get("accept", ""):
        headers = {"Refresh": RELOAD_S, "Retry-After": STARTING_RETRY_S}
        return PlainTextResponse(f"Lipwire is starting: {doing}.\n", 503, headers)
    return _refusal(doing)


def _refusal(doing: str) -> Response:
    headers = {"Retry-After": STARTING_RETRY_S}
    return Refusal(503, "engine_not_ready", f"the server is starting: {doing}", headers).answer()
