"""Log lines: text for people, or JSON for programs, one line each.

A line about a call names it: `session=` in text, the field `session` in JSON.
"""

from __future__ import annotations

import json
import logging
from collections.abc import MutableMapping
from datetime import UTC, datetime
from typing import Any, Literal

LogFormat = Literal["text", "json"]
TEXT = "%(asctime)s %(levelname)-7s %(processName)s %(name)s %(session_text)s%(message)s"
# Below warning they log packets, session descriptions, addresses with queries and headers.
QUIET = ("aioice", "aiortc", "av", "multipart", "uvicorn", "websockets")
_CONTROL = {code: f"\\u{code:04x}" for code in (*range(32), *range(127, 160), 0x2028, 0x2029)}


def configure_logging(level: str, format: LogFormat = "text") -> None:
    """Sends every log line of this process to standard error."""
    handler = logging.StreamHandler()
    handler.setFormatter(JsonFormatter() if format == "json" else TextFormatter(TEXT))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    for name in QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)


class TextFormatter(logging.Formatter):
    """The session before the message, where there is one; a message is one line."""

    def format(self, record: logging.LogRecord) -> str:
        session = getattr(record, "session", None)
        record.session_text = f"session={session} " if session else ""
        return super().format(record)

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802
        record.message = record.message.translate(_CONTROL)  # nobody's text begins a line
        return super().formatMessage(record)


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time, level, process, logger, message; session and error."""

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "process": record.processName,
            "logger": record.name,
            "message": record.getMessage(),
        }
        session = getattr(record, "session", None)
        if session:
            line["session"] = session
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        return json.dumps(line)


class SessionLog(logging.LoggerAdapter[logging.Logger]):
    """Puts the session's id on every line."""

    def __init__(self, logger: logging.Logger, session: str) -> None:
        super().__init__(logger, {"session": session})

    def process(
        self, msg: Any, kwargs: MutableMapping[str, Any]
    ) -> tuple[Any, MutableMapping[str, Any]]:
        return msg, {**kwargs, "extra": {**kwargs.get("extra", {}), **(self.extra or {})}}
