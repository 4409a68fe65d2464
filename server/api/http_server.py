"""uvicorn as this server runs it, for one gateway and for several."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Coroutine, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import uvicorn
from starlette.types import ASGIApp

from engine.errors import ConfigError
from server.access.client_limits import is_among
from server.api.certificate import CertificateFiles
from server.api.connection_limits import (
    MAX_HEADER_BYTES,
    BoundedHttp,
    Connections,
    CountedWebSocket,
)
from server.config import Settings
from server.websocket.wire import MAX_PACKET_BYTES

KEEP_ALIVE_S = 5
CLOSE_REQUESTS_S = 5


class _Server(uvicorn.Server):
    """A server whose certificate may be renewed while it runs.

    Leaves signals to us: uvicorn raises them again when it is done, in the midst of our end.

    Args:
        certificate: of a loaded configuration; None: no https.
    """

    def __init__(self, config: uvicorn.Config, certificate: CertificateFiles | None) -> None:
        super().__init__(config)
        self._certificate = certificate

    async def serve(self, sockets: list[socket.socket] | None = None) -> None:
        if self._certificate is None:
            await super().serve(sockets)
            return
        watching = asyncio.create_task(self._certificate.watch(), name="certificate")
        try:
            await super().serve(sockets)
        finally:
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def http_server(app: ASGIApp, settings: Settings, uds: Path | None = None) -> uvicorn.Server:
    """What answers requests to an application.

    Args:
        uds: answer on this Unix socket, which only processes of this server reach, and believe no
            header about who asks; None: on sockets that `serve` is given.

    Raises:
        ConfigError: certificate or key cannot be used.
    """
    secure = uds is None and settings.tls_cert is not None
    held = None
    if uds is None:
        held = Connections(lambda address: is_among(address, settings.trusted_proxies))
    config = uvicorn.Config(
        app,
        uds=None if uds is None else str(uds),
        # uvicorn calls what it takes for classes.
        http=partial(BoundedHttp, held=held),  # type: ignore[arg-type]
        ws=partial(CountedWebSocket, held=held),  # type: ignore[arg-type]
        h11_max_incomplete_event_size=MAX_HEADER_BYTES,
        ws_max_size=MAX_PACKET_BYTES,  # longer messages close with 1009
        ws_per_message_deflate=False,  # media is compressed; zlib holds 24 MB per 200 connections
        ssl_certfile=settings.tls_cert if secure else None,
        ssl_keyfile=settings.tls_key if secure else None,
        lifespan="off",
        log_config=None,
        access_log=False,
        proxy_headers=uds is None,
        forwarded_allow_ips=list(settings.trusted_proxies),
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=CLOSE_REQUESTS_S,
    )
    try:
        config.load()
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(
            f"expected a certificate chain in {settings.tls_cert} and its key in "
            f"{settings.tls_key}, both PEM: {error}"
        ) from error
    certificate = None
    if config.ssl is not None and settings.tls_cert is not None and settings.tls_key is not None:
        certificate = CertificateFiles(config.ssl, settings.tls_cert, settings.tls_key)
    return _Server(config, certificate)


def new_loop() -> asyncio.AbstractEventLoop:
    try:
        import uvloop  # absent on Windows
    except ImportError:
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()


async def until_hurried(work: Coroutine[Any, Any, None], hurrying: asyncio.Event) -> None:
    """Does the work, or as much of it as is done when a signal says to hurry."""
    working = asyncio.create_task(work)
    hurry = asyncio.create_task(hurrying.wait())
    await asyncio.wait({working, hurry}, return_when=asyncio.FIRST_COMPLETED)
    for task in (working, hurry):
        task.cancel()
    await asyncio.gather(working, hurry, return_exceptions=True)
