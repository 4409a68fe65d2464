"""HTTP across two network namespaces, so that only media has to take the bad link between them.

async with relay(browser_namespace, server_namespace, port) as link_of_http: ...

A page needs a secure context for its microphone, which 127.0.0.1 is and an address on a link is
not. Whoever asks 127.0.0.1:`port` in the first namespace is answered by 127.0.0.1:`port` of the
second.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from benchmarks.faulty_link import inside

LOCAL = "127.0.0.1"
CHUNK = 65_536


class Relay:
    """Moves bytes of any number of connections.

    Attributes:
        cut: carries nothing new meanwhile: who asks waits.
    """

    def __init__(self, target_namespace: str, port: int) -> None:
        self.cut = False
        self._namespace = target_namespace
        self._port = port
        self._tasks: set[asyncio.Task[None]] = set()

    async def serve(self, listener: socket.socket) -> None:
        """Takes connections until cancelled."""
        loop = asyncio.get_running_loop()
        try:
            while True:
                near, _ = await loop.sock_accept(listener)
                task = asyncio.create_task(self._join(near))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
        finally:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _join(self, near: socket.socket) -> None:
        with inside(self._namespace):
            far = socket.socket()
        with near, far, suppress(OSError):
            for end in (near, far):
                end.setblocking(False)
            await asyncio.get_running_loop().sock_connect(far, (LOCAL, self._port))
            await asyncio.gather(self._move(near, far), self._move(far, near))

    async def _move(self, source: socket.socket, target: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while data := await loop.sock_recv(source, CHUNK):
            while self.cut:
                await asyncio.sleep(0.02)
            await loop.sock_sendall(target, data)
        with suppress(OSError):
            target.shutdown(socket.SHUT_WR)


@asynccontextmanager
async def relay(near: str, far: str, port: int) -> AsyncIterator[Relay]:
    """A relay from namespace `near` to `far` for the time of a `with` block."""
    with inside(near):
        listener = socket.socket()
    with listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.setblocking(False)
        listener.bind((LOCAL, port))
        listener.listen()
        moving = Relay(far, port)
        serving = asyncio.create_task(moving.serve(listener))
        try:
            yield moving
        finally:
            serving.cancel()
            await asyncio.gather(serving, return_exceptions=True)
