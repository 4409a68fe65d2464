"""What the OpenAPI document says of requests and answers whose form FastAPI cannot see."""

from __future__ import annotations

from collections.abc import Callable
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI
from fastapi.routing import APIRoute

from server.api.problems import PROBLEM
from server.webrtc.trickle import FRAGMENT

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


def declare_refusals(app: FastAPI, needs_token: Callable[[str, str], bool]) -> None:
    """Adds to every operation the refusals that come before its own code is reached.

    Args:
        needs_token: of method and path.
    """
    for route in app.routes:
        if not isinstance(route, APIRoute):
            continue
        refusals: Responses = {}
        if any(needs_token(method, route.path) for method in route.methods or ()):
            refusals |= errors(401, 403)
        parameters = route.dependant
        if parameters.path_params or parameters.query_params or parameters.header_params:
            refusals |= errors(422)  # instead of FastAPI's own form of it
        route.responses = refusals | route.responses


_ANSWER: Responses = {
    201: content(201, "application/sdp")[201] | {"headers": _ANSWER_HEADERS},
}
ANSWERED = _ANSWER | errors(400, 404, 406, 408, 409, 413, 415, 422, 429, 503)
RESUMED = _ANSWER | errors(400, 404, 406, 408, 413, 415, 422, 503)
WATCHED = _ANSWER | errors(400, 404, 406, 408, 409, 413, 415, 422, 503)
TRICKLED = errors(400, 404, 408, 412, 413, 415, 422, 428)
# An upload's job is looked at, and its avatar removed, by what its answer says.
_TAKEN: Responses = {
    202: {
        "description": "The file is here and waits for its turn",
        "links": {
            "progress": {
                "operationId": "upload_progress_v1_avatars_jobs__job__get",
                "parameters": {"job": "$response.body#/job"},
            },
            "removal": {
                "operationId": "remove_avatar_v1_avatars__name__delete",
                "parameters": {"name": "$response.body#/name"},
            },
        },
    }
}
UPLOADED = _TAKEN | errors(408, 409, 413, 415, 503, 507)
UPLOAD_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
    }
}
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
