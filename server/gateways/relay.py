"""A client's WebSocket passed on to another gateway, message by message."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from starlette.types import Receive, Scope, Send
from websockets.asyncio.client import ClientConnection, unix_connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus
from websockets.typing import Origin, Subprotocol

from server.gateways.http_client import ANSWER_TIMEOUT_S, headers_for, send_unavailable, target_of

ABNORMAL = (1005, 1006)  # closed without a code: none may be sent
GOING_AWAY = 1001
# Made anew on this side of the relay.
HANDSHAKE = ("host", "origin")


async def relay(socket: Path, scope: Scope, receive: Receive, send: Send) -> None:
    """Has another gateway hold a WebSocket; both ends are told what the other says at its end."""
    await receive()  # websocket.connect
    headers = {
        name.decode("latin-1"): value.decode("latin-1") for name, value in headers_for(scope)
    }
    sent = {
        name: value
        for name, value in headers.items()
        if name not in HANDSHAKE and not name.startswith("sec-websocket-")
    }
    try:
        upstream = await unix_connect(
            str(socket),
            # Its host is what the other gateway compares the page's origin with.
            f"ws://{headers.get('host', 'gateway')}{target_of(scope).decode('latin-1')}",
            subprotocols=[Subprotocol(name) for name in scope["subprotocols"]] or None,
            origin=Origin(headers["origin"]) if "origin" in headers else None,
            additional_headers=sent,
            user_agent_header=None,
            compression=None,
            max_size=None,  # the other gateway's own messages
            ping_interval=None,  # both gateways ping their ends
            open_timeout=ANSWER_TIMEOUT_S,
        )
    except InvalidStatus as error:
        await _deny(error, send)
        return
    except (OSError, TimeoutError, InvalidHandshake):
        await send_unavailable(send, "websocket.http.response")
        return
    async with upstream:
        await send({"type": "websocket.accept", "subprotocol": upstream.subprotocol})
        pumps = [
            asyncio.create_task(_to_client(upstream, send)),
            asyncio.create_task(_from_client(upstream, receive)),
        ]
        await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        for pump in pumps:
            pump.cancel()
        await asyncio.gather(*pumps, return_exceptions=True)


async def _to_client(upstream: ClientConnection, send: Send) -> None:
    try:
        while True:
            message = await upstream.recv()
            key = "text" if isinstance(message, str) else "bytes"
            await send({"type": "websocket.send", key: message})
    except ConnectionClosed:
        code = upstream.close_code
        if code is None or code in ABNORMAL:
            code = GOING_AWAY
        await send({"type": "websocket.close", "code": code, "reason": upstream.close_reason or ""})


async def _from_client(upstream: ClientConnection, receive: Receive) -> None:
    while True:
        message = await receive()
        if message["type"] == "websocket.disconnect":
            code = message.get("code", GOING_AWAY)
            await upstream.close(GOING_AWAY if code in ABNORMAL else code)
            return
        text: Any = message.get("text")
        await upstream.send(message["bytes"] if text is None else text)


async def _deny(error: InvalidStatus, send: Send) -> None:
    """The other gateway's refusal, as it is."""
    response = error.response
    headers = [
        (name.lower().encode("latin-1"), value.encode("latin-1"))
        for name, value in response.headers.raw_items()
        if name.lower() not in ("connection", "date", "server")
    ]
    kind = "websocket.http.response"
    await send({"type": f"{kind}.start", "status": response.status_code, "headers": headers})
    await send({"type": f"{kind}.body", "body": response.body or b""})
