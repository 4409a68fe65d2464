"""Calls over WebRTC by HTTP: begun by an offer, given candidates, resumed, ended (RFC 9725)."""

from __future__ import annotations

import secrets
from typing import Any

from fastapi import FastAPI, Header, Request, Response
from starlette.exceptions import HTTPException

from engine.errors import LipwireError
from server.access.client_limits import client_of
from server.api import openapi
from server.api.gateway import Gateway
from server.api.refusals import BadRequest
from server.api.request_bodies import SDP, mode_of, read_body, read_offer
from server.config import Settings
from server.webrtc.ice import ice_links, ice_servers_for
from server.webrtc.peer import Peer
from server.webrtc.trickle import FRAGMENT, parse_fragment


def add_session_routes(app: FastAPI, gateway: Gateway) -> None:
    """`/v1/sessions`, and where its clients find STUN and TURN servers."""
    sessions, settings = gateway.sessions, gateway.settings

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
            chosen, name = mode_of(mode, avatar)
            offer = await read_offer(request, settings.max_body_bytes)
            client = client_of(request.client.host if request.client else None)
            session, answer = await sessions.begin(offer, chosen, name, client)
        except LipwireError as error:
            gateway.refuse(error)
            raise
        return answered(answer, f"/v1/sessions/{session}", sessions.peer_of(session), settings)

    @app.get("/v1/ice-servers")
    async def ice_servers(response: Response) -> dict[str, Any]:
        """STUN and TURN servers for a call that is about to be made."""
        response.headers["Cache-Control"] = "no-store"
        servers = ice_servers_for(settings, secrets.token_hex(4))
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
            offer = await read_offer(request, settings.max_body_bytes)
            answer = await sessions.resume(session, resume_token, offer)
        except LipwireError as error:
            gateway.refuse(error)
            raise
        return answered(answer, f"/v1/sessions/{session}", sessions.peer_of(session), settings)

    @app.patch(
        "/v1/sessions/{session}",
        status_code=204,
        responses=openapi.TRICKLED,
        openapi_extra=openapi.FRAGMENT_BODY,
    )
    async def add_candidates(
        request: Request, session: str, if_match: str | None = Header(None, max_length=100)
    ) -> Response:
        """Takes candidates that the client found after its offer."""
        body = await read_fragment(request, settings.max_body_bytes)
        return await trickled(sessions.peer_of(session), if_match, body)

    @app.delete("/v1/sessions/{session}", status_code=204, responses=openapi.errors(404))
    async def end_session(session: str) -> Response:
        """Ends a call."""
        await sessions.end(session)
        return Response(status_code=204)

    add_reserved_methods(app, "/v1/sessions", post=SDP)
    add_reserved_methods(app, "/v1/sessions/{session}", patch=FRAGMENT)


def answered(answer: str, location: str, peer: Peer, settings: Settings) -> Response:
    """201: the answer to an offer, and where its connection is changed and ended."""
    headers = {
        "Location": location,
        "ETag": peer.etag,
        "Accept-Patch": FRAGMENT,
        "Cache-Control": "no-store",
    }
    response = Response(answer, 201, headers, media_type=SDP)
    name = location.rpartition("/")[2][:8]
    for link in ice_links(ice_servers_for(settings, name)):
        response.headers.append("Link", link)
    return response


async def read_fragment(request: Request, limit: int) -> str:
    """The body of a request that brings candidates.

    Raises:
        BadRequest: as `read_body`.
    """
    return await read_body(request, FRAGMENT, limit, "an SDP fragment", "bad_fragment")


async def trickled(peer: Peer, if_match: str | None, fragment: str) -> Response:
    """204, when a connection has taken what a fragment says.

    Args:
        if_match: the request's header of that name.

    Raises:
        BadRequest: the header is missing, or names another ICE session.
        OfferRefused: the fragment cannot be taken.
    """
    if if_match is None:
        raise BadRequest(428, "no_if_match", "expected the header If-Match with the answer's ETag")
    if not {tag.strip() for tag in if_match.split(",")} & {peer.etag, "*"}:
        raise BadRequest(412, "if_match", "expected If-Match to name the answer's ETag")
    await peer.add_candidates(parse_fragment(fragment))
    return Response(status_code=204)


def add_reserved_methods(
    app: FastAPI, path: str, *, post: str | None = None, patch: str | None = None
) -> None:
    """OPTIONS, which tells what a body must be; 405 to what RFC 9725, 4.2 and 4.3, reserves.

    The page's folder, which is mounted at the root, would answer 404 to the latter.

    Args:
        post, patch: content types.
    """
    methods = [*(["POST"] if post else []), *(["PATCH", "DELETE"] if patch else []), "OPTIONS"]
    headers = {"Allow": ", ".join(methods)}
    headers |= {"Accept-Post": post} if post else {}
    headers |= {"Accept-Patch": patch} if patch else {}

    @app.options(path, status_code=204, include_in_schema=False)
    async def options() -> Response:
        return Response(status_code=204, headers=headers)

    @app.api_route(path, methods=["GET", "HEAD", "PUT"], include_in_schema=False)
    async def reserved() -> Response:
        raise HTTPException(405, headers=headers)
