"""HTTP from one gateway to another, over the other's Unix socket.

A request that begins a call goes to the gateway with the fewest, one about a call to the gateway
that holds it. The other answers as if the client had asked it: it is told the client's address,
which only a gateway can tell it, since nobody else reaches its socket.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import h11
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from server.api.problems import PROBLEM, problem

CLIENT_HEADER = b"lipwire-client"
SCHEME_HEADER = b"lipwire-scheme"
OWN_METRICS = "/gateway/metrics"  # no request of a client is passed on under this path
OURS = (CLIENT_HEADER, SCHEME_HEADER)
# Of one connection, not of the request (RFC 9110, 7.6.1).
HOP_BY_HOP = (b"connection", b"keep-alive", b"te", b"trailer", b"upgrade", b"proxy-connection")
ANSWER_TIMEOUT_S = 15.0  # longer than any answer takes; a gateway beyond it hangs
READ_BYTES = 65_536
UNAVAILABLE = "the process that holds this call does not answer, try again in a moment"


def gateway_socket(folder: Path, gateway: int) -> Path:
    """Where a gateway answers the others."""
    return folder / f"gateway-{gateway}.sock"


class FromGateway:
    """An application on the socket where only gateways ask: for their clients, and for metrics.

    Args:
        metrics: this gateway's own, as Prometheus reads them.
    """

    def __init__(self, app: ASGIApp, metrics: Callable[[], bytes]) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] in ("http", "websocket"):
            if scope["type"] == "http" and scope["path"] == OWN_METRICS:
                await Response(self._metrics(), media_type="text/plain")(scope, receive, send)
                return
            told = {name: value.decode("latin-1") for name, value in scope["headers"]}
            client, scheme = told.get(CLIENT_HEADER, ""), told.get(SCHEME_HEADER, "http")
            host, _, port = client.rpartition(" ")
            headers = [(name, value) for name, value in scope["headers"] if name not in OURS]
            scope = {**scope, "headers": headers, "scheme": scheme}
            scope["client"] = (host, int(port)) if host else None
        await self._app(scope, receive, send)


async def forward(socket: Path, scope: Scope, receive: Receive, send: Send) -> None:
    """Has another gateway answer a request; 503 where it does not."""
    started = False

    async def send_on(message: Message) -> None:
        nonlocal started
        started = True
        await send(message)

    try:
        async with asyncio.timeout(None) as limit, _Exchange.open(socket) as exchange:
            exchange.request(scope["method"], target_of(scope), headers_for(scope))
            uploading = asyncio.create_task(exchange.upload(receive))
            # A body takes as long as its client does: the answer's time begins at its end.
            uploading.add_done_callback(
                lambda _: limit.reschedule(asyncio.get_running_loop().time() + ANSWER_TIMEOUT_S)
            )
            try:
                await exchange.download(send_on)
            finally:
                uploading.cancel()
                await asyncio.gather(uploading, return_exceptions=True)
    except (OSError, TimeoutError, h11.RemoteProtocolError):
        if started:
            raise
        await send_unavailable(send)


async def fetch(socket: Path, target: str, timeout_s: float) -> bytes:
    """The body of another gateway's answer to a GET.

    Raises:
        OSError, TimeoutError, h11.RemoteProtocolError: there is none.
    """
    body = bytearray()

    async def keep(message: Message) -> None:
        body.extend(message.get("body", b""))

    async with asyncio.timeout(timeout_s), _Exchange.open(socket) as exchange:
        exchange.request("GET", target.encode(), [(b"host", b"gateway")])
        exchange.end()
        await exchange.download(keep)
    return bytes(body)


class _Exchange:
    """One request and its answer on a connection of their own."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self._http = h11.Connection(h11.CLIENT)

    @classmethod
    @asynccontextmanager
    async def open(cls, socket: Path) -> AsyncIterator[_Exchange]:
        reader, writer = await asyncio.open_unix_connection(str(socket))
        try:
            yield cls(reader, writer)
        finally:
            writer.close()

    def request(self, method: str, target: bytes, headers: Iterable[tuple[bytes, bytes]]) -> None:
        self._write(
            h11.Request(method=method, target=target, headers=[*headers, (b"connection", b"close")])
        )

    def end(self) -> None:
        self._write(h11.EndOfMessage())

    async def upload(self, receive: Receive) -> None:
        """Passes the client's body on; a client that goes away closes the connection."""
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                self._writer.close()
                return
            if message.get("body"):
                self._write(h11.Data(data=message["body"]))
                await self._writer.drain()
            if not message.get("more_body"):
                self.end()
                return

    async def download(self, send: Send) -> None:
        """Passes the answer on."""
        while True:
            event = self._http.next_event()
            match event:
                case h11.NEED_DATA:
                    self._http.receive_data(await self._reader.read(READ_BYTES))
                case h11.Response():
                    headers = [
                        (name, value) for name, value in event.headers if name not in HOP_BY_HOP
                    ]
                    await send(
                        {
                            "type": "http.response.start",
                            "status": event.status_code,
                            "headers": headers,
                        }
                    )
                case h11.Data():
                    await send(
                        {"type": "http.response.body", "body": bytes(event.data), "more_body": True}
                    )
                case h11.EndOfMessage():
                    await send({"type": "http.response.body", "body": b"", "more_body": False})
                    return
                case _:
                    raise h11.RemoteProtocolError("expected an answer, the connection closed")

    def _write(self, event: Any) -> None:
        data = self._http.send(event)
        if data:
            self._writer.write(data)


def target_of(scope: Scope) -> bytes:
    """Path and query as the client sent them."""
    path: bytes = scope.get("raw_path") or scope["path"].encode()
    query: bytes = scope["query_string"]
    return path + b"?" + query if query else path


def headers_for(scope: Scope) -> list[tuple[bytes, bytes]]:
    """The client's headers, without what somebody might have put there in our name."""
    headers = [
        (name, value) for name, value in scope["headers"] if name not in (*OURS, *HOP_BY_HOP)
    ]
    if scope["client"] is not None:
        host, port = scope["client"]
        headers.append((CLIENT_HEADER, f"{host} {port}".encode("latin-1")))
    headers.append((SCHEME_HEADER, scope["scheme"].encode("latin-1")))
    return headers


async def send_unavailable(send: Send, kind: str = "http.response") -> None:
    """503.

    Args:
        kind: of the ASGI messages: "http.response", or "websocket.http.response".
    """
    body = problem(503, "gateway_unavailable", UNAVAILABLE)
    headers = [
        (b"content-type", PROBLEM.encode()),
        (b"content-length", str(len(body)).encode()),
        (b"retry-after", b"1"),
    ]
    await send({"type": f"{kind}.start", "status": 503, "headers": headers})
    await send({"type": f"{kind}.body", "body": body})
