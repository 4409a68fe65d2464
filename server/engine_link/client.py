"""The engine of another process: connected to where `EngineHost` starts one."""

from __future__ import annotations

import asyncio
import socket
import time
from multiprocessing.connection import Connection

from server.engine_link.host import EngineHost, EngineUnavailable
from server.engine_link.messages import EngineSettings
from server.engine_link.start import LOAD_LIMIT_S

CONNECT_INTERVAL_S = 0.1  # the engine binds its socket when its model is loaded


class EngineClient(EngineHost):
    """A gateway's connection to the engine that its supervisor runs.

    An engine that dies or falls silent is connected to again when its supervisor has replaced it;
    sessions live on meanwhile as they do in a gateway with an engine of its own.

    Args:
        settings: the engine's, with its socket in `listen`.
    """

    def __init__(self, settings: EngineSettings) -> None:
        super().__init__(settings)
        if settings.listen is None:
            raise ValueError("expected the engine's socket in settings.listen, got None")
        self._path = str(settings.listen)

    async def _connect(self) -> Connection:
        """A connection to the engine, as soon as it takes any."""
        deadline = time.monotonic() + LOAD_LIMIT_S
        while True:
            client = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            try:
                client.connect(self._path)
            except OSError as error:
                client.close()
                if time.monotonic() > deadline:
                    raise EngineUnavailable(
                        f"expected an engine within {LOAD_LIMIT_S:.0f} s: {error.strerror}"
                    ) from error
                await asyncio.sleep(CONNECT_INTERVAL_S)
            else:
                return Connection(client.detach())
