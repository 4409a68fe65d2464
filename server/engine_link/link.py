"""Messages to and from another process of ours, on the event loop, without ever blocking it."""

from __future__ import annotations

import asyncio
import select
from collections import deque
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

OUTBOX_MESSAGES = 1000  # 10 s of one session: a process this far behind hangs


class Link:
    """One connection: messages are read when there are some, written while the other end reads.

    Args:
        connection: becomes the link's own.
        on_message: called with each message.
        on_lost: called once, with the reason, when the other end is gone or does not read.
    """

    def __init__(
        self,
        connection: Connection,
        on_message: Callable[[Any], None],
        on_lost: Callable[[str], None],
    ) -> None:
        self._connection = connection
        self._on_message = on_message
        self._on_lost = on_lost
        self._outbox: deque[Any] = deque()
        self._writable = select.poll()
        self._writable.register(connection.fileno(), select.POLLOUT)
        self._flushing = False
        self._lost = False
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(connection.fileno(), self._on_readable)

    def send(self, message: Any) -> None:
        """Sends, at once or when the other end reads; a link that is lost takes it for nothing."""
        if self._lost:
            return
        if not self._outbox and self._can_write():
            self._write(message)
            return
        self._outbox.append(message)
        if len(self._outbox) > OUTBOX_MESSAGES:
            self._lose("does not read its messages")
        elif not self._flushing:
            self._flushing = True
            self._loop.add_writer(self._connection.fileno(), self._flush)

    def close(self) -> None:
        """Lets go of the connection; what was not written yet is not."""
        if self._connection.closed:
            return
        self._stop()
        self._connection.close()

    def _can_write(self) -> bool:
        return any(event & select.POLLOUT for _, event in self._writable.poll(0))

    def _write(self, message: Any) -> None:
        try:
            self._connection.send(message)
        except OSError:
            self._lose("is gone")

    def _flush(self) -> None:
        while self._outbox and not self._lost and self._can_write():
            self._write(self._outbox.popleft())
        if not self._outbox and self._flushing:
            self._flushing = False
            self._loop.remove_writer(self._connection.fileno())

    def _on_readable(self) -> None:
        try:
            while not self._lost and self._connection.poll():
                self._on_message(self._connection.recv())
        except (EOFError, OSError):
            self._lose("is gone")

    def _lose(self, reason: str) -> None:
        if not self._lost:
            self._stop()
            self._on_lost(reason)

    def _stop(self) -> None:
        self._lost = True
        self._outbox.clear()
        self._loop.remove_reader(self._connection.fileno())
        self._loop.remove_writer(self._connection.fileno())
        self._flushing = False
