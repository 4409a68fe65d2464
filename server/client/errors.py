"""Why a call cannot be had, or is over.

CallError
+-- CallRefused    the server does not take the call
+-- CallEnded      the server or the network ended it
"""

from __future__ import annotations

import json

from engine.errors import LipwireError
from server.protocol import ErrorMessage


class CallError(LipwireError):
    """The call cannot be had, or has ended."""


class CallRefused(CallError):
    """The server does not take the call.

    Attributes:
        status: of the HTTP answer.
        code: short name for programs.
        retry_after_s: when to ask again, None where that would not help.
    """

    def __init__(self, status: int, code: str, message: str, retry_after_s: int | None) -> None:
        super().__init__(message)
        self.status, self.code, self.retry_after_s = status, code, retry_after_s


class CallEnded(CallError):
    """The server or the network ended the call.

    Attributes:
        code: short name for programs; "" where the server gave none.
        retry_after_s: when to call again, None where that does not matter.
    """

    def __init__(self, message: str, code: str = "", retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.code, self.retry_after_s = code, retry_after_s


def ending(error: ErrorMessage) -> CallEnded:
    """Why the server ended the call, in its words."""
    retry_ms = error.retry_after_ms
    retry_s = None if retry_ms is None else retry_ms / 1000
    return CallEnded(f"{error.code}: {error.message}", error.code, retry_s)


def refusal(status: int, body: bytes | bytearray, retry_after: str | None) -> CallRefused:
    """What an HTTP answer that is no success says.

    Args:
        retry_after: its header of that name.
    """
    code, message = "http_error", f"the server answered {status}"
    try:
        said = json.loads(body)["error"]
        code, message = str(said["code"]), str(said["message"])
    except (ValueError, KeyError, TypeError):
        pass  # something between us and the server answered
    retry = int(retry_after) if retry_after and retry_after.isdecimal() else None
    return CallRefused(status, code, message, retry)
