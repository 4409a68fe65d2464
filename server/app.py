"""The HTTP side: sessions by offer and answer, avatars, status, metrics and the page.

Every error is JSON, `{"error": {"code", "message"}}`, with a status that says
whose fault it was.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import secrets
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Header, Request, Response, WebSocket
from fastapi.exceptions import RequestValidationError
from fastapi.staticfiles import StaticFiles
from starlette.exceptions import HTTPException

from engine.errors import LipwireError
from server import aiortc_overrides, openapi
from server.access import add_access, add_ticket_route, open_tokens
from server.auth import Grant, Tokens
from server.avatar_routes import add_upload_routes
from server.avatar_uploads import AvatarUploads, limits_for
from server.avatars import AvatarInfo, AvatarLibrary
from server.backend_metrics import BackendCollector
from server.client_limits import client_of
from server.config import CLIENT_WEB, Settings
from server.engine_host import EngineHost
from server.engine_messages import Mode
from server.engine_metrics import EngineCollector
from server.engine_settings import engine_settings
from server.gateway_calibration import CallCost, measure_call_ms
from server.ice import ice_links, ice_servers_for
from server.idle_calibration import REMEMBERED, IdleTimer
from server.loop_lag import watch_loop
from server.metrics import Metrics
from server.places import LATE_HOPS_OF_A_FULL_GATEWAY, OwnPlaces, Places
from server.plan_metrics import PlanCollector
from server.quoting import quoted
from server.refusals import INTERNAL, BadRequest, Refusal, refusal_of
from server.release import server_version
from server.sessions import Sessions
from server.tickets import Tickets
from server.websocket_api import serve_media
from server.wire import SUBPROTOCOL

logger = logging.getLogger(__name__)

SDP = "application/sdp"
OFFER_BODY_S = 10.0  # for an offer to come in
COUNT_INTERVAL_S = 5.0
FULL_SHARE = 0.9  # of one core: a gateway beyond it falls behind


class Gateway:
    """What the application runs on: engine, sessions, avatars, metrics.

    Attributes:
        metrics_page: makes what `/metrics` shows.
    """

    def __init__(
        self,
        settings: Settings,
        core: str | None = None,
        *,
        host: EngineHost | None = None,
        places: Places | None = None,
        tickets: Tickets | None = None,
        session_suffix: str = "",
    ) -> None:
        """
        Args:
            core: "module:callable" of another engine core than the settings' own.
            host: the engine; None: a process of its own.
            places: where calls get theirs; None: its own.
            tickets: who knows which were taken; None: this process alone.
            session_suffix: what the ids of its sessions end with.
        """
        self.settings = settings
        self.metrics = Metrics()
        self.tokens = open_tokens(settings, tickets)
        self.library = AvatarLibrary(settings.avatar_path)
        self.host = host or EngineHost(engine_settings(settings, core))
        self.places: Places = places or OwnPlaces(settings)
        self.sessions = Sessions(
            settings, self.host, self.library, self.metrics, self.places, session_suffix
        )
        self.metrics_page: Callable[[], Awaitable[bytes]] = self._own_metrics
        self._counting: asyncio.Task[None] | None = None
        self._watching: asyncio.Task[None] | None = None
        self._posters: dict[str, bytes] = {}
        self.uploads = AvatarUploads(
            settings.uploads_path,
            self.library,
            limits_for(settings.max_upload_mb << 20, settings.max_width, settings.max_height),
        )
        self.metrics.registry.register(EngineCollector(self.host))
        self.metrics.registry.register(BackendCollector(lambda: self.host.ready))
        self.metrics.registry.register(PlanCollector(lambda: self.host.ready, settings.plans))
        self.metrics.sessions_limit.set_function(lambda: self.places.limit)

    async def start(self) -> None:
        """Loads the engine.

        Raises:
            EngineUnavailable: it says why it cannot run.
        """
        if self.settings.aiortc_overrides:
            aiortc_overrides.apply()
        ready = await self.host.start()
        if self.settings.calibrate:
            clip = next((info.folder / "clip.mp4" for info in self.library.infos()), None)
            call_ms = await asyncio.to_thread(measure_call_ms, clip)
            self.places.set_capacity(ready, call_ms)
            counting = self._count_cost(clip, call_ms)
            self._counting = asyncio.create_task(counting, name="cost-counter")
        lag = watch_loop(self.metrics.loop_lag.observe)
        self._watching = asyncio.create_task(lag, name="loop-lag")
        gc.freeze()  # what is loaded by now stays: collections in mid-call look at calls only

    async def stop(self) -> None:
        """Ends every call and the engine."""
        for task in (self._counting, self._watching):
            if task is not None:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
        await self.uploads.close()
        await self.sessions.close()
        await self.host.stop()
        gc.unfreeze()

    async def _own_metrics(self) -> bytes:
        return self.metrics.render()

    async def _count_cost(self, clip: Path | None, call_ms: float) -> None:
        """Corrects the number of places by what hops and calls are seen to cost.

        Args:
            clip: an avatar's, to measure with until calls have been counted.
            call_ms: as measured at the start.
        """
        cost, idle = CallCost(), IdleTimer()
        measured = deque([call_ms], maxlen=REMEMBERED)
        while True:
            await asyncio.sleep(COUNT_INTERVAL_S)
            cost.note(self.sessions.count)
            if cost.call_ms is None and idle.due(self.places.taken):
                measured.append(await asyncio.to_thread(measure_call_ms, clip))
            if self.host.ready is not None:
                self.places.set_capacity(self.host.ready, cost.call_ms or min(measured))
            if cost.share > FULL_SHARE:
                self.places.note_late(LATE_HOPS_OF_A_FULL_GATEWAY)

    async def poster(self, name: str) -> bytes:
        """An avatar's first picture as JPEG, decoded once."""
        if name not in self._posters:
            self._posters[name] = await asyncio.to_thread(self.library.poster, name)
        return self._posters[name]

    def refuse(self, error: LipwireError) -> Refusal:
        """What is told to a call that is not let in, counted."""
        refusal = refusal_of(error) or INTERNAL
        self.metrics.refused.labels(refusal.code).inc()
        return refusal

    def forget_poster(self, name: str) -> None:
        """Another avatar of that name may come."""
        self._posters.pop(name, None)


def create_app(gateway: Gateway) -> FastAPI:
    """The application over a gateway, which the caller starts and stops."""
    # The interactive documentation loads its scripts from elsewhere: the page is not served.
    app = FastAPI(title="Lipwire", version=server_version(), docs_url=None, redoc_url=None)
    _add_error_handlers(app)
    _add_session_routes(app, gateway)
    _add_media_route(app, gateway)
    _add_avatar_routes(app, gateway)
    _add_status_routes(app, gateway)
    if gateway.settings.max_upload_mb:
        max_bytes = gateway.settings.max_upload_mb << 20
        add_upload_routes(app, gateway.uploads, max_bytes, gateway.forget_poster)
    add_ticket_route(app, gateway.tokens)
    add_access(app, gateway.tokens, gateway.settings.allowed_origins, gateway.metrics.deny)
    if CLIENT_WEB.is_dir():
        app.mount("/", StaticFiles(directory=CLIENT_WEB, html=True), name="page")
    return app


def _add_session_routes(app: FastAPI, gateway: Gateway) -> None:
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
            chosen = _mode(mode, avatar)
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


def _add_media_route(app: FastAPI, gateway: Gateway) -> None:
    @app.websocket("/v1/media")
    async def media(socket: WebSocket, mode: str = "avatar", avatar: str | None = None) -> None:
        """A call over a WebSocket, see docs/protocol.md."""

        try:
            _check_subprotocol(socket)
            chosen = _mode(mode, avatar)
        except BadRequest as error:
            await socket.send_denial_response(gateway.refuse(error).answer())
            return
        name = avatar if chosen == "avatar" else None
        timeout_s = gateway.settings.offer_timeout_s
        await serve_media(
            gateway.sessions,
            socket,
            chosen,
            name,
            timeout_s,
            lambda error: gateway.refuse(error).answer(),
        )


def _check_subprotocol(socket: WebSocket) -> None:
    offered = socket.scope.get("subprotocols", [])
    if SUBPROTOCOL not in offered:
        # Not what they are: one of them may be a ticket.
        raise BadRequest(
            400, "subprotocol", f"expected the subprotocol {SUBPROTOCOL} among {len(offered)}"
        )


def _add_avatar_routes(app: FastAPI, gateway: Gateway) -> None:
    @app.get("/v1/avatars")
    async def list_avatars(request: Request) -> dict[str, Any]:
        """The avatars that a call may name."""
        avatars = await asyncio.to_thread(gateway.library.infos)
        own = gateway.uploads.is_own
        described = [_describe(info, gateway.tokens) | {"own": own(info.name)} for info in avatars]
        grant: Grant = request.state.grant
        uploads = gateway.settings.max_upload_mb > 0 and grant.allows("avatars:write")
        return {"avatars": described, "uploads": uploads}

    @app.get("/v1/avatars/{name}/poster.jpg", response_class=Response, responses=openapi.POSTER)
    async def avatar_poster(name: str) -> Response:
        """The first picture of an avatar's clip."""
        data = await gateway.poster(name)
        return Response(data, media_type="image/jpeg", headers={"Cache-Control": "max-age=3600"})


def _add_status_routes(app: FastAPI, gateway: Gateway) -> None:
    @app.get("/v1/status")
    async def status() -> dict[str, Any]:
        """What runs here and how busy it is."""
        host, ready = gateway.host, gateway.host.ready
        engine: dict[str, Any] = {"state": host.state, "restarts": host.restarts}
        if ready is not None:
            engine |= {
                "model": ready.model,
                "backend": ready.backend,
                "resolution": ready.resolution,
                "hop_frames": ready.hop_frames,
                "hop_ms": round(ready.hop_ms, 1),
                "busy": round(host.busy, 3),
            }
            if ready.choice is not None:
                engine["backend_reason"] = ready.backend_reason
                engine["backends_passed_over"] = [asdict(item) for item in ready.choice.passed]
        places = gateway.places
        sessions: dict[str, Any] = {"active": places.taken, "max": places.limit}
        if places.capacity is not None:
            sessions["capacity"] = places.capacity.describe()
            sessions["why"] = places.capacity.explain()
        if places.gateways:
            sessions["gateways"] = [
                {"up": state.up, "active": state.sessions, "restarts": state.restarts}
                for state in places.gateways
            ]
        return {"version": server_version(), "engine": engine, "sessions": sessions}

    @app.get("/healthz")
    async def healthz() -> dict[str, str]:
        """The gateway answers."""
        return {"status": "ok"}

    @app.get("/readyz", responses=openapi.NOT_READY)
    async def readyz(response: Response) -> dict[str, str]:
        """Calls can be taken."""
        state = "draining" if gateway.sessions.draining else gateway.host.state
        if state != "ready":
            response.status_code = 503
        return {"status": state}

    @app.get("/metrics", response_class=Response, responses=openapi.METRICS)
    async def metrics() -> Response:
        """For Prometheus."""
        page = await gateway.metrics_page()
        return Response(page, media_type="text/plain; version=0.0.4; charset=utf-8")


def _add_error_handlers(app: FastAPI) -> None:
    @app.exception_handler(LipwireError)
    async def on_lipwire_error(request: Request, error: LipwireError) -> Response:
        refusal = refusal_of(error)
        if refusal is None:
            route = getattr(request.scope.get("route"), "path", "")  # the path may be a secret
            logger.error("http: %s: %s: %s", route, type(error).__name__, error)
            refusal = INTERNAL
        return refusal.answer()

    @app.exception_handler(RequestValidationError)
    async def on_validation_error(request: Request, error: RequestValidationError) -> Response:
        problems = "; ".join(
            f"{'.'.join(str(part) for part in item['loc'])}: {item['msg']}"
            for item in error.errors()
        )
        return Refusal(422, "bad_request", f"expected a usable request, got {problems}").answer()

    @app.exception_handler(HTTPException)
    async def on_http_error(request: Request, error: HTTPException) -> Response:
        sentences = {
            404: f"there is nothing at {quoted(request.url.path)}",
            405: f"{quoted(request.method)} is not possible at {quoted(request.url.path)}",
        }
        message = sentences.get(error.status_code, str(error.detail))
        code = {404: "not_found", 405: "method_not_allowed"}.get(error.status_code, "http_error")
        return Refusal(error.status_code, code, message, error.headers or {}).answer()

    @app.exception_handler(Exception)
    async def on_any_error(request: Request, error: Exception) -> Response:
        return INTERNAL.answer()


def _mode(mode: str, avatar: str | None) -> Mode:
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


def _describe(info: AvatarInfo, tokens: Tokens | None) -> dict[str, Any]:
    key = "" if tokens is None else f"?key={tokens.poster_key(info.name)}"
    return {
        "name": info.name,
        "title": info.title,
        "width": info.width,
        "height": info.height,
        "licence": info.licence,
        "poster": f"/v1/avatars/{info.name}/poster.jpg{key}",
    }
