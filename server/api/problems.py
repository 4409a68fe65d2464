"""The body of every error that is answered over HTTP: RFC 9457, with our codes. Pure."""

from __future__ import annotations

import json
from http import HTTPStatus

PROBLEM = "application/problem+json"


def problem(status: int, code: str, message: str) -> bytes:
    """The JSON of an error; `error` says the same again, for clients of before RFC 9457.

    Args:
        code: short name for programs.
        message: a sentence for people.
    """
    body = {
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": message,
        "code": code,
        "error": {"code": code, "message": message},
    }
    return json.dumps(body, separators=(",", ":")).encode()
