"""What a client is told when something is refused: a status, a short code, a sentence."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from engine.errors import AvatarError, LipwireError
from server.access.client_limits import ClientLimited
from server.api.problems import PROBLEM, problem
from server.avatars.upload_jobs import UploadRefused
from server.calls.session import Draining, EngineNotReady, SessionUnknown
from server.calls.streams import StreamRefused
from server.capacity.admission import ServerFull
from server.quoting import quoted
from server.webrtc.signaling import OfferRefused

logger = logging.getLogger(__name__)

DRAINING_RETRY_S = "10"  # when another process should have taken over
STARTING_RETRY_S = "3"


class BadRequest(LipwireError):
    """A request that cannot be understood.

    Attributes:
        status: of the answer.
        code: short name for programs.
    """

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code


@dataclass(frozen=True, slots=True)
class Refusal:
    """An error as it is answered.

    Attributes:
        code: for programs and metrics; one of a few words of ours.
    """

    status: int
    code: str
    message: str
    headers: Mapping[str, str] = field(default_factory=dict)

    def answer(self) -> Response:
        """Problem details, see `server.api.problems`."""
        body = problem(self.status, self.code, self.message)
        return Response(body, self.status, dict(self.headers), media_type=PROBLEM)


INTERNAL = Refusal(500, "internal", "something went wrong here; the log says what")


def refusal_of(error: LipwireError) -> Refusal | None:
    """How an error is answered; None to what is no refusal."""
    message = str(error)
    match error:
        case BadRequest() | OfferRefused() | UploadRefused():
            return Refusal(error.status, error.code, message)
        case StreamRefused():
            retry_s = error.retry_after_s
            headers = {} if retry_s is None else {"Retry-After": str(retry_s)}
            return Refusal(error.status, error.code, message, headers)
        case ServerFull():
            return Refusal(503, "server_full", message, {"Retry-After": str(error.retry_after_s)})
        case ClientLimited():
            return Refusal(429, error.code, message, {"Retry-After": str(error.retry_after_s)})
        case Draining():
            return Refusal(503, "draining", message, {"Retry-After": DRAINING_RETRY_S})
        case EngineNotReady():
            return Refusal(503, "engine_not_ready", message, {"Retry-After": STARTING_RETRY_S})
        case AvatarError():
            return Refusal(404, "unknown_avatar", message)
        case SessionUnknown():
            return Refusal(404, "unknown_session", message)
    return None


def add_error_handlers(app: FastAPI) -> None:
    """Makes every error that leaves a route an answer of this form."""

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
