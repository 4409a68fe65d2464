"""Runs the gateway behind uvicorn until a signal ends it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import socket
from collections.abc import Callable, Iterator

import uvicorn

from server.app import Gateway, create_app
from server.config import Settings
from server.logs import configure_logging

logger = logging.getLogger(__name__)

KEEP_ALIVE_S = 5
CLOSE_REQUESTS_S = 5


class _Server(uvicorn.Server):
    """Leaves signals to us: uvicorn raises them again when it is done, in the midst of our end."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def serve(settings: Settings, on_ready: Callable[[str], None]) -> None:
    """Serves until a signal: SIGTERM lets calls end, SIGINT and a second signal end them.

    Args:
        on_ready: told the address once requests are taken.

    Raises:
        EngineUnavailable: the engine says why it cannot run.
        OSError: the address cannot be bound.
    """
    configure_logging(settings.log_level)
    uvloop_runner = asyncio.Runner(loop_factory=_new_loop)
    with uvloop_runner as runner:
        runner.run(_serve(settings, on_ready))


def _new_loop() -> asyncio.AbstractEventLoop:
    try:
        import uvloop  # absent on Windows
    except ImportError:
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()


def _bind(host: str, port: int) -> socket.socket:
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family)
    except OSError as error:
        raise OSError(f"cannot listen on {host}, port {port}: {error.strerror}") from error


async def _serve(settings: Settings, on_ready: Callable[[str], None]) -> None:
    gateway = Gateway(settings)
    config = uvicorn.Config(
        create_app(gateway),
        host=settings.host,
        port=settings.port,
        ws="websockets-sansio",
        log_config=None,
        access_log=False,
        forwarded_allow_ips=list(settings.trusted_proxies),
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=CLOSE_REQUESTS_S,
    )
    sock = _bind(settings.host, settings.port)  # before the model: a taken port is told at once
    server = _Server(config)
    loop = asyncio.get_running_loop()
    stopping, hurrying = asyncio.Event(), asyncio.Event()

    def on_signal(number: int) -> None:
        if number == signal.SIGINT or stopping.is_set():
            hurrying.set()
        stopping.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, on_signal, number)
    try:
        starting = asyncio.create_task(gateway.start())
        waiting = asyncio.create_task(stopping.wait())
        await asyncio.wait({starting, waiting}, return_when=asyncio.FIRST_COMPLETED)
        if not starting.done():
            starting.cancel()
            await asyncio.gather(starting, return_exceptions=True)
            return
        starting.result()
        serving = asyncio.create_task(server.serve(sockets=[sock]))
        host, port = sock.getsockname()[:2]
        shown = f"[{host}]" if ":" in host else host
        on_ready(f"http://{'localhost' if host in ('127.0.0.1', '::1') else shown}:{port}")
        await asyncio.wait({serving, waiting}, return_when=asyncio.FIRST_COMPLETED)
        await _drain(gateway, settings.drain_timeout_s, hurrying)
        await gateway.sessions.close()
        server.should_exit = True
        await serving
    finally:
        waiting.cancel()
        sock.close()
        await gateway.stop()


async def _drain(gateway: Gateway, timeout_s: float, hurrying: asyncio.Event) -> None:
    """Lets calls end by themselves until time is up or a signal says to hurry."""
    draining = asyncio.create_task(gateway.sessions.drain(timeout_s))
    hurry = asyncio.create_task(hurrying.wait())
    await asyncio.wait({draining, hurry}, return_when=asyncio.FIRST_COMPLETED)
    for task in (draining, hurry):
        task.cancel()
    await asyncio.gather(draining, hurry, return_exceptions=True)
