"""WHIP (RFC 9725) and WHEP: one client publishes a stream, another one watches it.

A stream's session is one of `/v1/sessions`: there its publisher sends candidates, and ends it.
"""

from __future__ import annotations

from fastapi import FastAPI, Header, Request, Response

from engine.errors import LipwireError
from server.access.client_limits import client_of
from server.api import openapi
from server.api.gateway import Gateway
from server.api.request_bodies import SDP, mode_of, read_offer
from server.api.session_routes import add_reserved_methods, answered, read_fragment, trickled
from server.webrtc.trickle import FRAGMENT


def add_whip_routes(app: FastAPI, gateway: Gateway) -> None:
    """`/v1/whip/{stream}` and `/v1/whep/{stream}`."""
    sessions, streams, settings = gateway.sessions, gateway.streams, gateway.settings

    @app.post(
        "/v1/whip/{stream}",
        status_code=201,
        response_class=Response,
        responses=openapi.ANSWERED,
        openapi_extra=openapi.OFFER_BODY,
    )
    async def publish(
        request: Request, stream: str, mode: str = "avatar", avatar: str | None = None
    ) -> Response:
        """Publishes a stream (WHIP): an offer that only sends in, its answer out."""
        try:
            chosen, name = mode_of(mode, avatar)
            offer = await read_offer(request, settings.max_body_bytes)
            client = client_of(request.client.host if request.client else None)
            session, answer = await streams.publish(stream, offer, chosen, name, client)
        except LipwireError as error:
            gateway.refuse(error)
            raise
        return answered(answer, f"/v1/sessions/{session}", sessions.peer_of(session), settings)

    @app.post(
        "/v1/whep/{stream}",
        status_code=201,
        response_class=Response,
        responses=openapi.WATCHED,
        openapi_extra=openapi.OFFER_BODY,
    )
    async def watch(request: Request, stream: str) -> Response:
        """Watches a stream (WHEP): an offer that only receives in, its answer out."""
        try:
            offer = await read_offer(request, settings.max_body_bytes)
            viewer, answer = await streams.watch(stream, offer)
        except LipwireError as error:
            gateway.refuse(error)
            raise
        return answered(answer, f"/v1/whep/{stream}/{viewer.id}", viewer.peer, settings)

    @app.patch(
        "/v1/whep/{stream}/{viewer}",
        status_code=204,
        responses=openapi.TRICKLED,
        openapi_extra=openapi.FRAGMENT_BODY,
    )
    async def add_candidates(
        request: Request,
        stream: str,
        viewer: str,
        if_match: str | None = Header(None, max_length=100),
    ) -> Response:
        """Takes candidates that a viewer found after its offer."""
        body = await read_fragment(request, settings.max_body_bytes)
        return await trickled(streams.viewer_of(stream, viewer), if_match, body)

    @app.delete("/v1/whep/{stream}/{viewer}", status_code=204, responses=openapi.errors(404))
    async def end_viewer(stream: str, viewer: str) -> Response:
        """Ends a viewer's connection; the stream goes on."""
        streams.end_viewer(stream, viewer)
        return Response(status_code=204)

    add_reserved_methods(app, "/v1/whip/{stream}", post=SDP)
    add_reserved_methods(app, "/v1/whep/{stream}", post=SDP)
    add_reserved_methods(app, "/v1/whep/{stream}/{viewer}", patch=FRAGMENT)
