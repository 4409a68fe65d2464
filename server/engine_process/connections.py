"""The engine's connections: one to the process that started it, one to each further gateway.

Nothing here waits for a gateway: what one does not read yet is queued, and one that reads nothing
for long is let go, so that no gateway can hold up the others' hops.
"""

from __future__ import annotations

import logging
import select
import selectors
import socket
from collections import deque
from collections.abc import Iterator
from multiprocessing.connection import Connection
from pathlib import Path

from server.engine_link.messages import EngineReady, FromEngine, ToEngine
from server.engine_link.peer_credentials import OWN_USER_ONLY, is_own_user

logger = logging.getLogger(__name__)

OUTBOX_MESSAGES = 1000  # some ten seconds of three sessions
BACKLOG = 16


class OwnerGone(Exception):
    """The process that started the engine is gone."""


class EngineConnections:
    """All gateways of one engine.

    Args:
        owner: to the process that started this one.
        listen: the Unix socket for others; None: there are none.
        greeting: told to everybody first.
    """

    def __init__(self, owner: Connection, listen: Path | None, greeting: EngineReady) -> None:
        self._owner = owner
        self._greeting = greeting
        self._selector = selectors.DefaultSelector()
        self._outboxes: dict[Connection, deque[FromEngine]] = {}
        self._polls: dict[Connection, select.poll] = {}
        self._lost: list[Connection] = []
        self._listener: socket.socket | None = None
        if listen is not None:
            self._listener = _listen(listen)
            self._selector.register(self._listener, selectors.EVENT_READ)
        self._add(owner)

    def receive(self, timeout_s: float | None) -> Iterator[tuple[Connection, ToEngine]]:
        """The messages that have arrived, with whom they are from.

        Args:
            timeout_s: waits so long for something to do; None: for ever.
        """
        for key, events in self._selector.select(timeout_s):
            if key.fileobj is self._listener:
                self._accept()
                continue
            connection: Connection = key.data
            if events & selectors.EVENT_WRITE:
                self._flush(connection)
            if events & selectors.EVENT_READ:
                try:
                    while connection in self._outboxes and connection.poll():
                        yield connection, connection.recv()
                except (EOFError, OSError):
                    self._lose(connection)

    def send(self, connection: Connection, message: FromEngine) -> None:
        """Sends, now or when the gateway reads; to one that is lost, nothing."""
        outbox = self._outboxes.get(connection)
        if outbox is None:
            return
        outbox.append(message)
        if len(outbox) == 1:
            self._flush(connection)
        elif len(outbox) > OUTBOX_MESSAGES:
            logger.error("engine: a gateway does not read its messages and is let go")
            self._lose(connection)

    def greet(self, greeting: EngineReady) -> None:
        """Tells everybody another greeting, and whoever comes later."""
        self._greeting = greeting
        for connection in list(self._outboxes):
            self.send(connection, greeting)

    def take_lost(self) -> list[Connection]:
        """The gateways that were lost since the last call.

        Raises:
            OwnerGone: the owner is one of them.
        """
        lost, self._lost = self._lost, []
        if self._owner in lost:
            raise OwnerGone
        return lost

    def close(self) -> None:
        """Lets go of everything."""
        for connection in list(self._outboxes):
            self._lose(connection)
        if self._listener is not None:
            self._listener.close()
        self._selector.close()

    def _accept(self) -> None:
        assert self._listener is not None
        accepted, _ = self._listener.accept()
        if not is_own_user(accepted):
            logger.error("engine: a process of another user connected and is let go")
            accepted.close()
            return
        self._add(Connection(accepted.detach()))

    def _add(self, connection: Connection) -> None:
        poll = select.poll()
        poll.register(connection.fileno(), select.POLLOUT)
        self._polls[connection] = poll
        self._outboxes[connection] = deque()
        self._selector.register(connection, selectors.EVENT_READ, connection)
        self.send(connection, self._greeting)

    def _flush(self, connection: Connection) -> None:
        outbox, poll = self._outboxes[connection], self._polls[connection]
        try:
            while outbox and any(event & select.POLLOUT for _, event in poll.poll(0)):
                connection.send(outbox[0])
                outbox.popleft()
        except OSError:
            self._lose(connection)
            return
        events = selectors.EVENT_READ | (selectors.EVENT_WRITE if outbox else 0)
        if self._selector.get_key(connection).events != events:
            self._selector.modify(connection, events, connection)

    def _lose(self, connection: Connection) -> None:
        if self._outboxes.pop(connection, None) is not None:
            self._selector.unregister(connection)
            del self._polls[connection]
            connection.close()
            self._lost.append(connection)


def _listen(path: Path) -> socket.socket:
    """A socket at a path; one that an engine before this left there is replaced."""
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(str(path))
    path.chmod(OWN_USER_ONLY)  # nobody can connect before `listen`
    listener.listen(BACKLOG)
    return listener
