"""What a client is told when something is refused: a status, a short code, a sentence."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from fastapi.responses import JSONResponse

from engine.errors import AvatarError, LipwireError
from server.admission import ServerFull
from server.avatar_uploads import UploadRefused
from server.client_limits import ClientLimited
from server.session import Draining, EngineNotReady, SessionUnknown
from server.signaling import OfferRefused

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

    def answer(self) -> JSONResponse:
        """`{"error": {"code", "message"}}`."""
        error = {"code": self.code, "message": self.message}
        return JSONResponse({"error": error}, self.status, dict(self.headers))


INTERNAL = Refusal(500, "internal", "something went wrong here; the log says what")


def refusal_of(error: LipwireError) -> Refusal | None:
    """How an error is answered; None to what is no refusal."""
    message = str(error)
    match error:
        case BadRequest() | OfferRefused() | UploadRefused():
            return Refusal(error.status, error.code, message)
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
