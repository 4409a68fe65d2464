"""Which gateway answers: whoever accepts a connection passes on what another one must answer."""

from __future__ import annotations

import re
import zlib
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from starlette.types import ASGIApp, Receive, Scope, Send

from server.gateways.http_client import forward, gateway_socket, send_unavailable
from server.gateways.messages import GatewayState, ServerState
from server.gateways.relay import relay

SESSION_PATH = re.compile(r"/v1/sessions/[^/]*-(\d{1,4})(?:/.*)?")
STREAM_PATH = re.compile(r"/v1/wh[ie]p/([^/]+)(?:/.*)?")
BEGINNINGS = ("/v1/sessions",)


def session_suffix(gateway: int) -> str:
    """What the ids of a gateway's sessions end with."""
    return f"-{gateway}"


def gateway_of(path: str) -> int | None:
    """The gateway that holds the session of a request's path; None where it names none."""
    found = SESSION_PATH.fullmatch(path)
    return int(found[1]) if found else None


def gateway_of_stream(path: str, gateways: int) -> int | None:
    """The gateway that holds the stream of a request's path; None where it names none.

    A stream's name alone decides, so that publisher and viewer meet without anybody asking around.
    """
    found = STREAM_PATH.fullmatch(path)
    return zlib.crc32(found[1].encode()) % gateways if found and gateways else None


def is_for_home(method: str, path: str) -> bool:
    """Whether one gateway answers for all: what changes avatars, so that one is made at a time."""
    return method not in ("GET", "HEAD") and (path + "/").startswith("/v1/avatars/")


def least_loaded(gateways: tuple[GatewayState, ...], coming: Counter[int], own: int) -> int:
    """The gateway for the next call: the fewest calls, of equals the one that was asked.

    Args:
        coming: calls on their way to each, which its state does not show yet.
    """
    up = [gateway for gateway in gateways if gateway.up]
    if not up:
        return own
    return min(
        up, key=lambda gateway: (gateway.sessions + coming[gateway.index], gateway.index != own)
    ).index


class GatewayRouter:
    """Answers what is this gateway's own and everybody's, and passes the rest on.

    Args:
        app: this gateway's application.
        own: its index.
        folder: where the gateways' sockets are.
        state: the whole server, as last told.
    """

    def __init__(
        self,
        app: ASGIApp,
        own: int,
        folder: Path,
        state: Callable[[], ServerState],
    ) -> None:
        self._app = app
        self._own = own
        self._folder = folder
        self._state = state
        self._coming: Counter[int] = Counter()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        path, method = scope["path"], scope.get("method", "GET")
        if scope["type"] == "websocket":
            await self._hold_socket(scope, receive, send)
        elif path in BEGINNINGS and method == "POST":
            chosen = least_loaded(self._state().gateways, self._coming, self._own)
            self._coming[chosen] += 1
            try:
                await self._answer_by(chosen, scope, receive, send)
            finally:
                self._coming[chosen] -= 1
        elif (holder := gateway_of_stream(path, len(self._state().gateways))) is not None:
            if holder == self._own or self._state().gateways[holder].up:
                await self._answer_by(holder, scope, receive, send)
            else:
                await send_unavailable(send)
        elif is_for_home(method, path):
            up = [gateway.index for gateway in self._state().gateways if gateway.up]
            await self._answer_by(min(up, default=self._own), scope, receive, send)
        else:
            await self._answer_by(gateway_of(path), scope, receive, send)

    async def _hold_socket(self, scope: Scope, receive: Receive, send: Send) -> None:
        """A WebSocket is a call: the gateway with the fewest holds it."""
        gateways = self._state().gateways
        chosen = least_loaded(gateways, self._coming, self._own)
        if chosen == self._own:
            await self._app(scope, receive, send)
        else:
            await relay(gateway_socket(self._folder, chosen), scope, receive, send)

    async def _answer_by(
        self, gateway: int | None, scope: Scope, receive: Receive, send: Send
    ) -> None:
        # A gateway that is being replaced has lost its calls: nobody knows them, and 404 is right.
        others = {other.index for other in self._state().gateways if other.up} - {self._own}
        if gateway in others:
            await forward(gateway_socket(self._folder, gateway), scope, receive, send)
        else:
            await self._app(scope, receive, send)
