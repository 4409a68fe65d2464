"""What a connection may cost before anybody knows who is at its other end.

uvicorn waits for the header of a request as long as its client likes, and takes as many connections
as the process has descriptors. These are its protocols with a bound on each.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from server.access.client_limits import client_of
from server.engine_link.peer_credentials import is_own_user
from server.websocket.websocket_protocol import BoundedWebSocket

logger = logging.getLogger(__name__)

MAX_HEADER_BYTES = 32_768
HEADER_S = 10.0  # for a request's header to come
MAX_CONNECTIONS = 512  # of one gateway, idle ones and WebSockets too
MAX_CONNECTIONS_OF_ONE = 64  # a browser has six


class Connections:
    """Who is connected to one gateway.

    Args:
        is_proxy: whether an address speaks for many clients, and has no limit of its own.
    """

    def __init__(self, is_proxy: Callable[[str], bool]) -> None:
        self._is_proxy = is_proxy
        self._by_client: Counter[str] = Counter()
        self._all = 0

    def enter(self, address: str) -> bool:
        """Counts a connection; whether it may stay. One that may not is not to `leave`."""
        client = self._limited(address)
        if self._all >= MAX_CONNECTIONS:
            return False
        if client is not None and self._by_client[client] >= MAX_CONNECTIONS_OF_ONE:
            return False
        self._all += 1
        if client is not None:
            self._by_client[client] += 1
        return True

    def leave(self, address: str) -> None:
        """Counts its end."""
        self._all -= 1
        client = self._limited(address)
        if client is not None:
            self._by_client[client] -= 1
            if not self._by_client[client]:
                del self._by_client[client]

    def _limited(self, address: str) -> str | None:
        return None if self._is_proxy(address) else client_of(address)


class BoundedHttp(H11Protocol):
    """HTTP/1.1 whose headers come in time, on a bounded number of connections.

    Args:
        held: all connections; None on a Unix socket, that only this user's processes reach.
    """

    def __init__(self, *args: Any, held: Connections | None = None, **options: Any) -> None:
        super().__init__(*args, **options)
        self._held = held
        self._entered = False
        self._header_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if self._held is not None:
            self._entered = self._held.enter(self.client[0] if self.client else "")
            if not self._entered:
                transport.abort()
                return
        elif not is_own_user(transport.get_extra_info("socket")):
            logger.error("http: a process of another user connected and is let go")
            transport.abort()
            return
        self._wait_for_header()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.conn.their_state is not h11.IDLE:
            self._stop_waiting()
        elif self._header_timer is None and self.conn.trailing_data[0]:
            self._wait_for_header()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_waiting()
        if self._held is not None and self._entered:
            self._held.leave(self.client[0] if self.client else "")
        super().connection_lost(exc)

    def _wait_for_header(self) -> None:
        self._header_timer = self.loop.call_later(HEADER_S, self.transport.close)

    def _stop_waiting(self) -> None:
        if self._header_timer is not None:
            self._header_timer.cancel()
            self._header_timer = None


class CountedWebSocket(BoundedWebSocket):
    """A WebSocket that is forgotten when it ends; it was counted when it was a `BoundedHttp`.

    Args:
        held: all connections.
    """

    def __init__(self, *args: Any, held: Connections | None = None, **options: Any) -> None:
        super().__init__(*args, **options)
        self._held = held

    def connection_lost(self, exc: Exception | None) -> None:
        if self._held is not None:
            self._held.leave(self.client[0] if self.client else "")
        super().connection_lost(exc)
