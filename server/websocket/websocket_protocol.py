"""uvicorn's WebSocket with bounds on what a client may do to it.

uvicorn and websockets read what RFC 6455 allows and refuse the rest. What they leave open:

- Empty fragments, pings, pongs and tiny messages may come without end. They cost time of the one
  event loop, fragments are kept, and pongs are written whether the client reads or not.
- All frames of a segment of up to 256 KiB are parsed in one go: other calls wait some 0.3 s.
- Text that is no UTF-8 is logged with a traceback each time, and raises when the client's
  closing frame came with it.
- A handshake with a header that websockets finds too long is never answered.
- A message in flight to a client whose frames were refused raises `RuntimeError`.
- A client that reads nothing is never rid of: closing waits until it has read what was written.
- The kernel takes megabytes that nobody reads: a slow reader's sound would be seconds late.
"""

from __future__ import annotations

import asyncio
import socket
import sys
from typing import Any, Final

from uvicorn._types import ASGISendEvent
from uvicorn.protocols.utils import ClientDisconnected
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.frames import Frame
from websockets.protocol import State

from server.message_rate import RateLimit

SLICE_BYTES: Final = 16_384  # parsed in one go: 2,700 of the smallest frames, some 20 ms
BURST_FRAMES: Final = 4_096  # what a second of lost network may hold back, in small fragments
FRAMES_PER_S: Final = 1_024.0  # a call sends some 100, an agent that fragments some 500
UNSENT_BYTES: Final = 32_768  # in the kernel: 0.3 s of sound at 48 kHz
GONE_AFTER_S: Final = 5.0  # for a client to read its last messages and to close, too

_TOO_LARGE: Final = (
    b"HTTP/1.1 431 Request Header Fields Too Large\r\n"
    b"Connection: close\r\nContent-Length: 0\r\n\r\n"
)

INVALID_DATA, POLICY_VIOLATION = 1007, 1008


class BoundedWebSocket(WebSocketsSansIOProtocol):
    """One connection of a client."""

    def __init__(self, *args: Any, **more: Any) -> None:
        super().__init__(*args, **more)
        self._rate = RateLimit(BURST_FRAMES, FRAMES_PER_S)
        self._abort_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        # `send` waits until the kernel has it; over TLS until 64 KiB of it wait, and there 0 would
        # take an empty buffer for a full one.
        secure = transport.get_extra_info("sslcontext") is not None
        self.transport.set_write_buffer_limits(high=1 if secure else 0, low=0)
        connection = transport.get_extra_info("socket")
        if (
            sys.platform == "linux"
            and connection is not None
            and connection.family != socket.AF_UNIX
        ):
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, UNSENT_BYTES)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._abort_timer is not None:
            self._abort_timer.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        for start in range(0, len(data), SLICE_BYTES):
            if self.transport.is_closing():
                return
            super().data_received(data[start : start + SLICE_BYTES])
        if self.conn.handshake_exc is not None and not self.handshake_initiated:
            self.transport.write(_TOO_LARGE)
            self.transport.close()

    def handle_events(self) -> None:
        for event in self.conn.events:
            if isinstance(event, Frame) and not self._rate.allows():
                self.conn.events.clear()
                self._fail(POLICY_VIOLATION, "too many frames")
                return
        super().handle_events()

    def send_receive_event_to_app(self) -> None:
        if self.curr_msg_data_type == "text" and not self.close_sent:
            try:
                b"".join(self.frames).decode()
            except UnicodeDecodeError:
                self.frames = []
                self._fail(INVALID_DATA, "expected UTF-8")
                return
        super().send_receive_event_to_app()

    def _fail(self, code: int, reason: str) -> None:
        """Ends the connection with a code, unless it is being closed already."""
        if self.conn.state is State.OPEN:
            self.conn.fail(code, reason)
        self.handle_parser_exception()

    async def send(self, message: ASGISendEvent) -> None:
        try:
            await super().send(message)
        except RuntimeError:
            if self.close_sent and message["type"] == "websocket.send":
                raise ClientDisconnected from None  # its frames were refused, or it is not there
            raise
        if self.close_sent:  # a refusal too: uvicorn takes it for a handshake that was forgotten
            self.handshake_complete = True

    async def run_asgi(self) -> None:
        await super().run_asgi()
        if not self.disconnected:
            self._abort_timer = self.loop.call_later(GONE_AFTER_S, self.transport.abort)
