"""The HTTP side of calls over WebRTC: an SDP offer in, its answer out."""

from __future__ import annotations

import asyncio
import secrets
from typing import Any

from fastapi import FastAPI, Header, Request, Response

from engine.errors import LipwireError
from server import openapi
from server.client_limits import client_of
from server.engine_messages import Mode
from server.gateway import Gateway
from server.ice import ice_links, ice_servers_for
from server.quoting import quoted
from server.refusals import BadRequest

SDP = "application/sdp"
OFFER_BODY_S = 10.0  # for an offer to come in


def add_session_routes(app: FastAPI, gateway: Gateway) -> None:
    """Adds them."""

    @app.post(
        "/v1/sessions",
        status_code=201,
        response_class=Response,
        responses=openapi.ANSWERED,
        openapi_extra=openapi.OFFER_BODY,
    )
    async def begin_session(
        request: Request, mode: str = "avatar", avatar: str | None = None
    ) -> Response:
        """Begins a call: an SDP offer in, its answer out."""
        try:
            _check_accepts_sdp(request)
            chosen = call_mode(mode, avatar)
            offer = await _read_offer(request, gateway.settings.max_body_bytes)
            name = avatar if chosen == "avatar" else None
            client = client_of(request.client.host if request.client else None)
            session, answer = await gateway.sessions.begin(offer, chosen, name, client)
        except LipwireError as error:
            gateway.refuse(error)
            raise
        headers = {"Location": f"/v1/sessions/{session}", "Cache-Control": "no-store"}
        response = Response(answer, 201, headers, media_type=SDP)
        for link in ice_links(ice_servers_for(gateway.settings, session[:8])):
            response.headers.append("Link", link)
        return response

    @app.get("/v1/ice-servers")
    async def ice_servers(response: Response) -> dict[str, Any]:
        """STUN and TURN servers for a call that is about to be made."""
        response.headers["Cache-Control"] = "no-store"
        servers = ice_servers_for(gateway.settings, secrets.token_hex(4))
        return {"ice_servers": [server.describe() for server in servers]}

    @app.post(
        "/v1/sessions/{session}/resume",
        status_code=201,
        response_class=Response,
        responses=openapi.RESUMED,
        openapi_extra=openapi.OFFER_BODY,
    )
    async def resume_session(
        request: Request, session: str, resume_token: str = Header(max_length=100)
    ) -> Response:
        """Goes on with a call over another connection: an SDP offer in, its answer out."""
        try:
            offer = await _read_offer(request, gateway.settings.max_body_bytes)
            answer = await gateway.sessions.resume(session, resume_token, offer)
        except LipwireError as error:
            gateway.refuse(error)
            raise
        headers = {"Location": f"/v1/sessions/{session}", "Cache-Control": "no-store"}
        return Response(answer, 201, headers, media_type=SDP)

    @app.delete("/v1/sessions/{session}", status_code=204, responses=openapi.errors(404))
    async def end_session(session: str) -> Response:
        """Ends a call."""
        await gateway.sessions.end(session)
        return Response(status_code=204)


def call_mode(mode: str, avatar: str | None) -> Mode:
    """The mode that a query asks for.

    Raises:
        BadRequest: there is no such mode, or its avatar is missing.
    """
    match mode:
        case "live":
            return "live"
        case "avatar":
            if not avatar:
                raise BadRequest(422, "no_avatar", "avatar mode needs avatar=NAME in the query")
            return "avatar"
        case _:
            raise BadRequest(
                422, "bad_mode", f"expected mode=avatar or mode=live, got {quoted(mode)}"
            )


def _check_accepts_sdp(request: Request) -> None:
    """
    Raises:
        BadRequest: the client takes no SDP answer.
    """
    accept = request.headers.get("accept", "*/*")
    types = {part.split(";")[0].strip().lower() for part in accept.split(",")}
    if not types & {SDP, "application/*", "*/*"}:
        raise BadRequest(
            406, "not_acceptable", f"the answer is {SDP}, got Accept: {quoted(accept)}"
        )


async def _read_offer(request: Request, limit: int) -> str:
    """The request's body as text.

    Raises:
        BadRequest: another content type, too large, too slow, empty, or no text.
    """
    content_type = request.headers.get("content-type", "").split(";")[0].strip().lower()
    if content_type != SDP:
        raise BadRequest(
            415, "content_type", f"expected a body of {SDP}, got {quoted(content_type)}"
        )
    too_large = BadRequest(413, "too_large", f"expected an offer of at most {limit} bytes")
    declared = request.headers.get("content-length", "0")
    if declared.isdecimal() and int(declared) > limit:
        raise too_large
    body = bytearray()
    try:
        async with asyncio.timeout(OFFER_BODY_S):
            async for chunk in request.stream():
                body += chunk
                if len(body) > limit:
                    raise too_large
    except TimeoutError:
        raise BadRequest(
            408, "offer_timeout", f"expected the whole offer within {OFFER_BODY_S:.0f} s"
        ) from None
    if not body:
        raise BadRequest(400, "empty", "expected an SDP offer in the body, got nothing")
    try:
        return body.decode("utf-8")
    except UnicodeDecodeError:
        raise BadRequest(400, "bad_sdp", "expected an SDP offer as UTF-8 text") from None
