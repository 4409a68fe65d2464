"""The TLS certificate, taken anew where its files change: renewing one needs no restart."""

from __future__ import annotations

import asyncio
import logging
import ssl
from pathlib import Path

logger = logging.getLogger(__name__)

LOOK_INTERVAL_S = 30.0


class CertificateFiles:
    """A chain and its key, PEM, beside the context that connections are made with.

    Args:
        context: has them already.
    """

    def __init__(self, context: ssl.SSLContext, chain: Path, key: Path) -> None:
        self._context = context
        self._chain, self._key = chain, key
        self._seen = self._marks()

    def refresh(self) -> bool:
        """Takes the files anew if they have changed; whether it did.

        What is no certificate and its key (one of two files that are being written, say) is left
        alone and looked at again when it changes: connections go on with what there was.
        """
        marks = self._marks()
        if marks == self._seen:
            return False
        self._seen = marks
        try:
            # A context that fails in the middle has a chain and another one's key.
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(self._chain, self._key)
            self._context.load_cert_chain(self._chain, self._key)
        except (OSError, ssl.SSLError) as error:
            logger.warning("tls: %s and %s are not taken: %s", self._chain, self._key, error)
            return False
        logger.info("tls: the certificate in %s was replaced, new connections get it", self._chain)
        return True

    async def watch(self) -> None:
        """Refreshes again and again."""
        while True:
            await asyncio.sleep(LOOK_INTERVAL_S)
            self.refresh()

    def _marks(self) -> list[tuple[int, int, int] | None]:
        """What changes when a file is written or replaced."""
        return [_mark(path) for path in (self._chain, self._key)]


def _mark(path: Path) -> tuple[int, int, int] | None:
    try:
        found = path.stat()  # through links: renewals change what they point to
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size
