"""The JSON that travels on the data channel `lipwire`: encode and decode, no I/O.

Client to server: `ping`, `interrupt`, `session.end`.
Server to client: `session.ready`, `stats`, `pong`, `interrupted`, `draining`, `error`.
`docs/protocol.md` describes every field.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any

from engine.errors import LipwireError

CHANNEL = "lipwire"
MAX_MESSAGE_BYTES = 16_384


class ProtocolError(LipwireError):
    """A message that cannot be understood.

    Attributes:
        code: short name for programs.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True, slots=True)
class PingMessage:
    """Asks for a pong that carries `t` back."""

    t: float | int | str | None


@dataclass(frozen=True, slots=True)
class InterruptMessage:
    """Everything said so far is void."""


@dataclass(frozen=True, slots=True)
class EndMessage:
    """The client hangs up."""


ClientMessage = PingMessage | InterruptMessage | EndMessage


def decode_message(data: str | bytes) -> ClientMessage:
    """What a client said.

    Raises:
        ProtocolError: too long, no JSON object, an unknown type or a wrong field.
    """
    if not isinstance(data, str):
        raise ProtocolError("not_text", "expected a text message with JSON, got binary data")
    if len(data) > MAX_MESSAGE_BYTES:
        raise ProtocolError(
            "too_long", f"expected at most {MAX_MESSAGE_BYTES} characters, got {len(data)}"
        )
    try:
        message = json.loads(data)
    except (ValueError, RecursionError):
        raise ProtocolError("not_json", "expected a JSON object") from None
    if not isinstance(message, dict):
        raise ProtocolError("not_json", f"expected a JSON object, got {type(message).__name__}")
    match message.get("type"):
        case "ping":
            t = message.get("t")
            if isinstance(t, bool) or not isinstance(t, float | int | str | None):
                raise ProtocolError("bad_field", "ping: expected t as a number or a string")
            return PingMessage(t)
        case "interrupt":
            return InterruptMessage()
        case "session.end":
            return EndMessage()
        case other:
            known = "ping, interrupt, session.end"
            raise ProtocolError("unknown_type", f"expected a type of {known}, got {other!r:.40}")


@dataclass(frozen=True, slots=True)
class Percentiles:
    """p50 and p95 in ms; None until there is something to measure."""

    p50: float | None
    p95: float | None


@dataclass(frozen=True, slots=True)
class Stats:
    """How a session fared in the last second, or over the last ten where a percentile is named.

    Attributes:
        fps: pictures sent.
        late_hops: hops the engine dropped whole, since the session began.
        dropped_frames: pictures dropped anywhere, since the session began.
        missing_frames: places of the picture clock that no engine picture filled.
        server_latency_ms: from the arrival of the packet that holds a frame's
            first sample to the frame's release.
        capture_to_frame_ms: the same from the capture of that sample (p95).
        playout_delay_ms: by how much sound is held back.
        synced: mean share of generated mouth.
        compute_ms: of the newest batch in the engine.
        stalled: nothing arrives from the peer.
    """

    fps: float
    late_hops: int
    dropped_frames: int
    missing_frames: int
    server_latency_ms: Percentiles
    capture_to_frame_ms: float | None
    playout_delay_ms: float
    synced: float
    compute_ms: float
    backend: str
    engine: str
    stalled: bool


def encode_ready(
    session: str,
    mode: str,
    avatar: str | None,
    backend: str,
    model: str,
    limits: dict[str, Any],
    resume_token: str,
    *,
    resumed: bool,
) -> str:
    return _encode(
        "session.ready",
        session=session,
        mode=mode,
        avatar=avatar,
        backend=backend,
        model=model,
        limits=limits,
        resume_token=resume_token,
        resumed=resumed,
    )


def encode_stats(stats: Stats) -> str:
    return _encode("stats", **asdict(stats))


def encode_pong(ping: PingMessage) -> str:
    return _encode("pong", t=ping.t)


def encode_interrupted(generation: int) -> str:
    return _encode("interrupted", generation=generation)


def encode_draining(seconds: float) -> str:
    return _encode("draining", seconds=seconds)


def encode_error(code: str, message: str, *, fatal: bool = False) -> str:
    return _encode("error", code=code, message=message, fatal=fatal)


def _encode(kind: str, **fields: Any) -> str:
    return json.dumps({"type": kind, **fields}, separators=(",", ":"))
