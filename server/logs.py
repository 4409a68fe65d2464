"""Log lines: one line each, `key=value` after the message where there is something to say."""

from __future__ import annotations

import logging
from collections.abc import MutableMapping
from typing import Any

FORMAT = "%(asctime)s %(levelname)-7s %(processName)s %(name)s %(message)s"
QUIET = ("aioice", "aiortc", "av", "multipart", "websockets")


def configure_logging(level: str) -> None:
    """Sends every log line of this process to standard error."""
    logging.basicConfig(level=level.upper(), format=FORMAT, force=True)
    for name in QUIET:  # they log packets and session descriptions below warning
        logging.getLogger(name).setLevel(logging.WARNING)


class SessionLog(logging.LoggerAdapter[logging.Logger]):
    """Puts the session's id in front of every line."""

    def __init__(self, logger: logging.Logger, session: str) -> None:
        super().__init__(logger, {"session": session})
        self._prefix = f"session={session} "

    def process(
        self, msg: Any, kwargs: MutableMapping[str, Any]
    ) -> tuple[Any, MutableMapping[str, Any]]:
        return self._prefix + str(msg), kwargs
