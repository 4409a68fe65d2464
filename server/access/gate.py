"""The gate before every request: origin, then token, then scope."""

from __future__ import annotations

import re
from collections.abc import Callable
from urllib.parse import parse_qs

from fastapi import FastAPI, Request, Response
from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from server.access.auth import EVERYTHING, TICKET_S, AuthError, Grant, Tokens
from server.access.auth import Scope as TokenScope
from server.access.origins import host_allowed, origin_allowed
from server.access.page_headers import PageHeaders
from server.access.tickets import Tickets
from server.access.token_secret import read_or_make_secrets
from server.api.problems import PROBLEM, problem
from server.config import Settings

TICKET_PROTOCOL = "lipwire.ticket."  # + ticket, offered as a WebSocket subprotocol
CHANGING = frozenset({"POST", "PUT", "PATCH", "DELETE"})
_POSTER = re.compile(r"/v1/avatars/([^/]+)/poster\.jpg")


def needed_scope(method: str, path: str) -> TokenScope | None:
    """The scope that a request needs; None: nobody is asked."""
    if method == "OPTIONS":
        return None  # what a body must be; a browser sends no token with it
    if path == "/metrics":
        return "metrics"
    if not path.startswith("/v1/"):
        return None  # the page, and what tells whether the server lives
    if path.startswith("/v1/avatars/jobs/") or (
        path.startswith("/v1/avatars") and method in CHANGING
    ):
        return "avatars:write"
    return "watch" if path.startswith("/v1/whep/") else "call"


def open_tokens(settings: Settings, tickets: Tickets | None = None) -> Tokens | None:
    """The tokens of this server; None where none are needed.

    Args:
        tickets: who knows which were taken; None: this process alone.

    Raises:
        ConfigError: the secret cannot be read or made.
    """
    if not settings.needs_tokens:
        return None
    secret, *retiring = read_or_make_secrets(settings.secret_path)
    return Tokens(secret, tickets=tickets, retiring=retiring)


def add_access(
    app: FastAPI,
    tokens: Tokens | None,
    allowed_origins: tuple[str, ...],
    on_denied: Callable[[str], None] = lambda code: None,
) -> None:
    """Puts the gate before an application, and lets pages of those origins read its answers.

    Args:
        tokens: None: everybody who reaches this machine by its own name may do everything.
        on_denied: told the code of each request that may not pass.
    """
    app.add_middleware(Access, tokens=tokens, allowed_origins=allowed_origins, on_denied=on_denied)
    if allowed_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=allowed_origins,
            allow_methods=["GET", "OPTIONS", *sorted(CHANGING)],
            allow_headers=["authorization", "content-type", "if-match", "resume-token"],
            expose_headers=["accept-patch", "location", "link", "etag", "retry-after"],
        )
    app.add_middleware(PageHeaders, shared=bool(allowed_origins))


def add_ticket_route(app: FastAPI, tokens: Tokens | None) -> None:
    """`POST /v1/tickets`."""

    @app.post("/v1/tickets", status_code=201)
    async def make_ticket(request: Request, response: Response) -> dict[str, object]:
        """A ticket for one WebSocket: offer the subprotocol `lipwire.ticket.TICKET`."""
        response.headers["Cache-Control"] = "no-store"
        ticket = "" if tokens is None else tokens.issue_ticket(request.state.grant)
        return {"ticket": ticket, "expires_in": TICKET_S}


class Access:
    """ASGI: lets through what may pass, with `scope["state"]["grant"]` set.

    Args:
        tokens: None: everybody may do everything.
        allowed_origins: of pages elsewhere.
        on_denied: told the code of each request that may not pass.
    """

    def __init__(
        self,
        app: ASGIApp,
        tokens: Tokens | None,
        allowed_origins: tuple[str, ...] = (),
        on_denied: Callable[[str], None] = lambda code: None,
    ) -> None:
        self._app = app
        self._tokens = tokens
        self._allowed_origins = allowed_origins
        self._on_denied = on_denied

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] in ("http", "websocket"):
            try:
                grant = await self._judge(scope)
            except AuthError as error:
                self._on_denied(error.code)
                await _refuse(scope, receive, send, error)
                return
            scope.setdefault("state", {})["grant"] = grant
        await self._app(scope, receive, send)

    async def _judge(self, scope: Scope) -> Grant:
        headers = Headers(scope=scope)
        socket = scope["type"] == "websocket"
        method, path = scope.get("method", "GET"), scope["path"]
        if (socket or method in CHANGING) and not origin_allowed(
            headers.get("origin"),
            headers.get("host", ""),
            self._allowed_origins,
            tokens=self._tokens is not None,
        ):
            raise AuthError(
                403, "origin", "this page's origin may not use the server; see allowed_origins"
            )
        needed = needed_scope(method, path)
        if needed is None:
            return Grant("", frozenset())
        if self._tokens is None:
            if not host_allowed(headers.get("host", ""), self._allowed_origins):
                raise AuthError(
                    403, "host", "this server is asked by localhost only; see allowed_origins"
                )
            return EVERYTHING
        if method in ("GET", "HEAD") and (match := _POSTER.fullmatch(path)):
            query = parse_qs(scope.get("query_string", b"").decode("latin-1"))
            if self._tokens.is_poster_key(match[1], query.get("key", [""])[0]):
                return Grant("", frozenset())
        grant = await _grant(headers, self._tokens, socket=socket)
        grant.require(needed)
        return grant


async def _grant(headers: Headers, tokens: Tokens, *, socket: bool) -> Grant:
    scheme, _, token = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer" and token:
        return tokens.verify(token.strip())
    if socket:
        for offered in headers.get("sec-websocket-protocol", "").split(","):
            if offered.strip().startswith(TICKET_PROTOCOL):
                return await tokens.take_ticket(offered.strip().removeprefix(TICKET_PROTOCOL))
    raise AuthError(401, "no_token", "expected the header Authorization: Bearer TOKEN")


async def _refuse(scope: Scope, receive: Receive, send: Send, error: AuthError) -> None:
    kind = "http.response"
    if scope["type"] == "websocket":
        await receive()  # websocket.connect
        kind = "websocket.http.response"
    body = problem(error.status, error.code, str(error))
    headers = [(b"content-type", PROBLEM.encode()), (b"content-length", b"%d" % len(body))]
    if error.status == 401:
        headers.append((b"www-authenticate", b'Bearer realm="lipwire"'))
    start: Message = {"type": f"{kind}.start", "status": error.status, "headers": headers}
    await send(start)
    await send({"type": f"{kind}.body", "body": body})
