"""One of several gateway processes: the application, an engine that others share, a supervisor."""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
from multiprocessing.connection import Connection
from pathlib import Path

from engine.errors import LipwireError
from server.access.tickets import RemoteTickets
from server.allocator import limit_arenas
from server.api.app import create_app
from server.api.gateway import Gateway
from server.api.http_server import http_server, new_loop, until_hurried
from server.config import Settings
from server.engine_link.client import EngineClient
from server.engine_link.link import Link
from server.engine_link.messages import EngineSettings
from server.engine_link.peer_credentials import OWN_USER_ONLY
from server.gateways.http_client import FromGateway, gateway_socket
from server.gateways.messages import (
    Alive,
    Drain,
    GatewayFailed,
    GatewayReady,
    TicketAnswer,
    ToGateway,
)
from server.gateways.metrics import ServerMetrics
from server.gateways.remote_places import RemotePlaces
from server.gateways.router import GatewayRouter, session_suffix
from server.logs import configure_logging

logger = logging.getLogger(__name__)

ALIVE_INTERVAL_S = 1.0


def run_gateway(
    connection: Connection,
    sock: socket.socket,
    settings: Settings,
    engine: EngineSettings,
    index: int,
    folder: Path,
) -> None:
    """Entry point of the process.

    Args:
        connection: to the supervisor.
        sock: where clients come in; all gateways accept from it.
        engine: with the engine's socket in `listen`.
        folder: where the gateways' own sockets are.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the group; one decides
    configure_logging(settings.log_level, settings.log_format)
    limit_arenas()
    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(_Process(connection, sock, settings, engine, index, folder).run())


class _Process:
    def __init__(
        self,
        connection: Connection,
        sock: socket.socket,
        settings: Settings,
        engine: EngineSettings,
        index: int,
        folder: Path,
    ) -> None:
        self._connection = connection
        self._sock = sock
        self._settings = settings
        self._engine = engine
        self._index = index
        self._folder = folder
        self._stopping, self._hurrying = asyncio.Event(), asyncio.Event()
        self._drain_s = settings.drain_timeout_s

    async def run(self) -> None:
        """Serves until the supervisor says so or is gone."""
        self._link = Link(self._connection, self._take, self._on_supervisor_lost)
        self._places = RemotePlaces(self._link.send)
        self._tickets = RemoteTickets(self._link.send)
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, self._stopping.set)
        gateway = Gateway(
            self._settings,
            host=EngineClient(self._engine),
            places=self._places,
            tickets=self._tickets,
            session_suffix=session_suffix(self._index),
        )
        alive = asyncio.create_task(self._tell_alive(), name="alive")
        try:
            await self._serve(gateway)
        except LipwireError as error:
            self._link.send(GatewayFailed(str(error)))
        finally:
            alive.cancel()
            await asyncio.gather(alive, return_exceptions=True)
            await gateway.stop()
            self._link.close()
            self._sock.close()

    async def _serve(self, gateway: Gateway) -> None:
        waiting = asyncio.create_task(self._stopping.wait())
        starting = asyncio.create_task(gateway.start())
        await asyncio.wait({starting, waiting}, return_when=asyncio.FIRST_COMPLETED)
        if not starting.done():
            starting.cancel()
            await asyncio.gather(starting, return_exceptions=True)
            return
        starting.result()
        gateway.metrics_page = ServerMetrics(
            self._index, self._folder, lambda: self._places.state, gateway.metrics.render
        )
        app = create_app(gateway)
        routed = GatewayRouter(app, self._index, self._folder, lambda: self._places.state)
        public = http_server(routed, self._settings)
        inner = http_server(
            FromGateway(app, gateway.metrics.render),
            self._settings,
            uds=gateway_socket(self._folder, self._index),
        )
        answering = [
            asyncio.create_task(public.serve(sockets=[self._sock])),
            asyncio.create_task(inner.serve()),
        ]
        while not (public.started and inner.started):
            await asyncio.sleep(0.01)
        gateway_socket(self._folder, self._index).chmod(OWN_USER_ONLY)  # uvicorn lets everybody in
        self._link.send(GatewayReady())
        await asyncio.wait({waiting, *answering}, return_when=asyncio.FIRST_COMPLETED)
        await until_hurried(gateway.sessions.drain(self._drain_s), self._hurrying)
        await gateway.sessions.close()
        public.should_exit = inner.should_exit = True
        await asyncio.gather(*answering)

    async def _tell_alive(self) -> None:
        while True:
            self._link.send(Alive())
            await asyncio.sleep(ALIVE_INTERVAL_S)

    def _take(self, message: ToGateway) -> None:
        if isinstance(message, TicketAnswer):
            self._tickets.hear(message)
            return
        if not isinstance(message, Drain):
            self._places.take(message)
            return
        self._drain_s = message.timeout_s
        if message.timeout_s == 0:
            self._hurrying.set()
        self._stopping.set()

    def _on_supervisor_lost(self, reason: str) -> None:
        logger.error("the supervisor %s, ending", reason)
        self._hurrying.set()
        self._stopping.set()
