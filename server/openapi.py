"""What the OpenAPI document says of requests and answers whose form FastAPI cannot see."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from server.problems import PROBLEM
from server.trickle import FRAGMENT

Responses = dict[int | str, dict[str, Any]]

_TEXT = {"schema": {"type": "string"}}
_ERROR_SCHEMA = {
    "type": "object",
    "required": ["title", "status", "detail", "code", "error"],
    "properties": {
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "code": {"type": "string"},
        "error": {
            "type": "object",
            "required": ["code", "message"],
            "properties": {"code": {"type": "string"}, "message": {"type": "string"}},
        },
    },
}
_ANSWER_HEADERS = {
    name: {"required": True, "schema": {"type": "string"}}
    for name in ("Location", "ETag", "Accept-Patch")
}

OFFER_BODY: dict[str, Any] = {
    "requestBody": {"required": True, "content": {"application/sdp": _TEXT}},
}
FRAGMENT_BODY: dict[str, Any] = {
    "requestBody": {"required": True, "content": {FRAGMENT: _TEXT}},
}


def errors(*statuses: int) -> Responses:
    """Answers of these statuses, all of one form."""
    return {
        status: {
            "description": HTTPStatus(status).phrase,
            "content": {PROBLEM: {"schema": _ERROR_SCHEMA}},
        }
        for status in statuses
    }


def content(status: int, media_type: str, *, binary: bool = False) -> Responses:
    """An answer that is no JSON."""
    schema = {"schema": {"type": "string", "format": "binary"}} if binary else _TEXT
    return {status: {"description": HTTPStatus(status).phrase, "content": {media_type: schema}}}


_ANSWER: Responses = {
    201: content(201, "application/sdp")[201] | {"headers": _ANSWER_HEADERS},
}
ANSWERED = _ANSWER | errors(400, 404, 406, 408, 409, 413, 415, 422, 429, 503)
RESUMED = _ANSWER | errors(400, 404, 406, 408, 413, 415, 422, 503)
WATCHED = _ANSWER | errors(400, 404, 406, 408, 409, 413, 415, 422, 503)
TRICKLED = errors(400, 404, 408, 412, 413, 415, 422, 428)
POSTER = content(200, "image/jpeg", binary=True) | errors(404)
METRICS = content(200, "text/plain")
NOT_READY: Responses = {
    503: {
        "description": "No calls can be taken at the moment",
        "content": {
            "application/json": {
                "schema": {"type": "object", "additionalProperties": {"type": "string"}}
            }
        },
    }
}
