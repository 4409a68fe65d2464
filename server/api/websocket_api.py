"""`GET /v1/media`: the handshake of a call over a WebSocket."""

from __future__ import annotations

import asyncio

from fastapi import FastAPI, WebSocket, WebSocketDisconnect

from engine.errors import LipwireError
from server.access.client_limits import client_of
from server.api.gateway import Gateway
from server.api.refusals import BadRequest
from server.api.request_bodies import mode_of
from server.engine_link.messages import Mode
from server.protocol import ErrorMessage, ProtocolError, StartMessage, decode_client, encode_message
from server.websocket.socket_peer import SocketPeer
from server.websocket.wire import SUBPROTOCOL

PROTOCOL_ERROR = 1002


class HandshakeFailed(LipwireError):
    """The connection was accepted and closed again."""


def add_media_route(app: FastAPI, gateway: Gateway) -> None:
    """Adds it."""

    @app.websocket("/v1/media")
    async def media(socket: WebSocket, mode: str = "avatar", avatar: str | None = None) -> None:
        """A call over a WebSocket, see docs/protocol.md."""
        try:
            _check_subprotocol(socket)
            peer = await _begin(gateway, socket, *mode_of(mode, avatar))
        except (HandshakeFailed, WebSocketDisconnect):
            return
        except LipwireError as error:
            await socket.send_denial_response(gateway.refuse(error).answer())
            return
        await peer.run()


async def _begin(gateway: Gateway, socket: WebSocket, mode: Mode, avatar: str | None) -> SocketPeer:
    """The server's end of a call; the connection is accepted only when there is a place for it."""

    async def open_socket() -> tuple[WebSocket, StartMessage]:
        await socket.accept(subprotocol=SUBPROTOCOL)
        return socket, await _read_start(socket, gateway.settings.offer_timeout_s)

    client = client_of(socket.client.host if socket.client else None)
    return await gateway.sessions.begin_socket(mode, avatar, client, open_socket)


def _check_subprotocol(socket: WebSocket) -> None:
    """
    Raises:
        BadRequest: the client does not offer the one that is spoken here.
    """
    offered = socket.scope.get("subprotocols", [])
    if SUBPROTOCOL not in offered:
        # Not what they are: one of them may be a ticket.
        raise BadRequest(
            400, "subprotocol", f"expected the subprotocol {SUBPROTOCOL} among {len(offered)}"
        )


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
