"""Runs one gateway, or several under a supervisor, until a signal ends it."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
from collections.abc import Callable, Coroutine
from typing import Any

from server.allocator import limit_arenas
from server.api.app import create_app
from server.api.gateway import Gateway
from server.api.http_server import http_server, new_loop, until_hurried
from server.api.starting import answering_meanwhile
from server.config import Settings, unread_variables
from server.gateways.supervisor import Supervisor
from server.logs import configure_logging

logger = logging.getLogger(__name__)


def serve(settings: Settings, on_ready: Callable[[str], None]) -> None:
    """Serves until a signal: SIGTERM lets calls end, SIGINT and a second signal end them.

    Args:
        on_ready: told the address once requests are taken.

    Raises:
        EngineUnavailable: the engine says why it cannot run.
        OSError: the address cannot be bound.
    """
    configure_logging(settings.log_level, settings.log_format)
    for sentence in unread_variables(os.environ):
        logger.warning(sentence)
    limit_arenas()
    serving = _serve if settings.gateways == 1 else _supervise
    uvloop_runner = asyncio.Runner(loop_factory=new_loop)
    with uvloop_runner as runner:
        runner.run(serving(settings, on_ready))


def bind(host: str, port: int) -> socket.socket:
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family)
    except OSError as error:
        raise OSError(f"cannot listen on {host}, port {port}: {error.strerror}") from error


class _Signals:
    """SIGINT and SIGTERM as events: end when calls have ended, or hurry."""

    def __init__(self) -> None:
        self.stopping, self.hurrying = asyncio.Event(), asyncio.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, self._on_signal, number)

    def _on_signal(self, number: int) -> None:
        if number == signal.SIGINT or self.stopping.is_set():
            self.hurrying.set()
        self.stopping.set()

    async def started(self, work: Coroutine[Any, Any, None]) -> bool:
        """Whether the work was done before a signal came; if not, it is cancelled."""
        working = asyncio.create_task(work)
        waiting = asyncio.create_task(self.stopping.wait())
        await asyncio.wait({working, waiting}, return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        if working.done():
            working.result()
            return True
        working.cancel()
        await asyncio.gather(working, return_exceptions=True)
        return False


async def _serve(settings: Settings, on_ready: Callable[[str], None]) -> None:
    gateway = Gateway(settings)
    server = http_server(create_app(gateway), settings)
    sock = bind(settings.host, settings.port)  # before the model: a taken port is told at once
    signals = _Signals()
    waiting = asyncio.create_task(signals.stopping.wait())
    try:
        async with answering_meanwhile(settings, sock, gateway.host.describe_start):
            started = await signals.started(gateway.start())
        if not started:
            return
        serving = asyncio.create_task(server.serve(sockets=[sock]))
        on_ready(address_of(sock, secure=settings.tls_cert is not None))
        await asyncio.wait({serving, waiting}, return_when=asyncio.FIRST_COMPLETED)
        await until_hurried(gateway.sessions.drain(settings.drain_timeout_s), signals.hurrying)
        await gateway.sessions.close()
        server.should_exit = True
        await serving
    finally:
        waiting.cancel()
        sock.close()
        await gateway.stop()


async def _supervise(settings: Settings, on_ready: Callable[[str], None]) -> None:
    sock = bind(settings.host, settings.port)
    supervisor = Supervisor(settings, sock)
    signals = _Signals()
    try:
        async with answering_meanwhile(settings, sock, supervisor.host.describe_start):
            started = await signals.started(supervisor.start())
        if not started:
            return
        on_ready(address_of(sock, secure=settings.tls_cert is not None))
        await signals.stopping.wait()
        await until_hurried(supervisor.drain(settings.drain_timeout_s), signals.hurrying)
        await supervisor.drain(0)
    finally:
        sock.close()
        await supervisor.stop()


def address_of(sock: socket.socket, *, secure: bool = False) -> str:
    """What a browser on this machine calls a listening socket."""
    host, port = sock.getsockname()[:2]
    shown = f"[{host}]" if ":" in host else host
    scheme = "https" if secure else "http"
    return f"{scheme}://{'localhost' if host in ('127.0.0.1', '::1') else shown}:{port}"
