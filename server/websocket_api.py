"""`GET /v1/media`: admission, the handshake, and the session behind it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from fastapi import Response, WebSocket, WebSocketDisconnect

from engine.errors import LipwireError
from server.client_limits import client_of
from server.engine_messages import Mode
from server.protocol import ErrorMessage, ProtocolError, StartMessage, decode_client, encode_message
from server.sessions import Sessions
from server.wire import SUBPROTOCOL

PROTOCOL_ERROR = 1002


class HandshakeFailed(LipwireError):
    """The connection was accepted and closed again."""


async def serve_media(
    sessions: Sessions,
    socket: WebSocket,
    mode: Mode,
    avatar: str | None,
    start_timeout_s: float,
    refusal: Callable[[LipwireError], Response],
) -> None:
    """Runs one call over a WebSocket that has not been accepted yet.

    Args:
        start_timeout_s: until the client must have said `session.start`.
        refusal: the HTTP answer to a call that is not let in.
    """

    async def open_socket() -> tuple[WebSocket, StartMessage]:
        await socket.accept(subprotocol=SUBPROTOCOL)
        return socket, await _read_start(socket, start_timeout_s)

    client = client_of(socket.client.host if socket.client else None)
    try:
        peer = await sessions.begin_socket(mode, avatar, client, open_socket)
    except (HandshakeFailed, WebSocketDisconnect):
        return
    except LipwireError as error:
        await socket.send_denial_response(refusal(error))
        return
    await peer.run()


async def _read_start(socket: WebSocket, timeout_s: float) -> StartMessage:
    problem = "expected session.start as the first message"
    try:
        async with asyncio.timeout(timeout_s):
            message = await socket.receive()
        if message["type"] == "websocket.disconnect":
            raise WebSocketDisconnect
        start = decode_client(message.get("text") or message.get("bytes") or "")
        if isinstance(start, StartMessage):
            return start
    except TimeoutError:
        problem = f"expected session.start within {timeout_s:.0f} s"
    except ProtocolError as error:
        problem = str(error)
    await socket.send_text(encode_message(ErrorMessage("no_start", problem, fatal=True)))
    await socket.close(PROTOCOL_ERROR)
    raise HandshakeFailed(problem)
