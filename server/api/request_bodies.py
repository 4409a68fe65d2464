"""What a request to begin or to change a call brings: a mode, and a body of one content type."""

from __future__ import annotations

import asyncio

from fastapi import Request

from server.api.refusals import BadRequest
from server.engine_link.messages import Mode
from server.quoting import quoted

SDP = "application/sdp"
BODY_S = 10.0  # for a body to come in


def mode_of(mode: str, avatar: str | None) -> tuple[Mode, str | None]:
    """The mode that a query asks for, and the avatar that it needs.

    Raises:
        BadRequest: no mode that there is, or no avatar where one is needed.
    """
    match mode:
        case "live":
            return "live", None
        case "avatar":
            if not avatar:
                raise BadRequest(422, "no_avatar", "avatar mode needs avatar=NAME in the query")
            return "avatar", avatar
        case _:
            raise BadRequest(
                422, "bad_mode", f"expected mode=avatar or mode=live, got {quoted(mode)}"
            )


async def read_offer(request: Request, limit: int) -> str:
    """The SDP offer of a request whose client takes an SDP answer.

    Raises:
        BadRequest: it does not, or as `read_body`.
    """
    accept = request.headers.get("accept", "*/*")
    types = {part.split(";")[0].strip().lower() for part in accept.split(",")}
    if not types & {SDP, "application/*", "*/*"}:
        raise BadRequest(
            406, "not_acceptable", f"the answer is {SDP}, got Accept: {quoted(accept)}"
        )
    return await read_body(request, SDP, limit, "an SDP offer", "bad_sdp")


async def read_body(request: Request, content_type: str, limit: int, what: str, code: str) -> str:
    """The request's body as text.

    Args:
        limit: bytes.
        what: it should be, for people.
        code: of a body that is no text.

    Raises:
        BadRequest: another content type, too large, too slow, empty, or no text.
    """
    sent_type = request.headers.get("content-type", "").split(";")[0].strip().lower()
    if sent_type != content_type:
        raise BadRequest(
            415, "content_type", f"expected a body of {content_type}, got {quoted(sent_type)}"
        )
    too_large = BadRequest(413, "too_large", f"expected {what} of at most {limit} bytes")
    declared = request.headers.get("content-length", "0")
    if declared.isdecimal() and int(declared) > limit:
        raise too_large
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_S):
            async for chunk in request.stream():
                body += chunk
                if len(body) > limit:
                    raise too_large
    except TimeoutError:
        raise BadRequest(
            408, "offer_timeout", f"expected the whole body within {BODY_S:.0f} s"
        ) from None
    if not body:
        raise BadRequest(400, "empty", f"expected {what} in the body, got nothing")
    try:
        return body.decode("utf-8")
    except UnicodeDecodeError:
        raise BadRequest(400, code, f"expected {what} as UTF-8 text") from None
