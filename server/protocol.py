"""The control messages, JSON on the data channel `lipwire` and on the WebSocket: no I/O.

A message is a frozen dataclass; its JSON has the same fields and a `type`. Unknown fields
are ignored, so that later versions may add some; a missing or ill-typed one is refused.
`docs/protocol.md` lists every message, and a test holds this module to its tables.

    client: session.start, segment.end, flush, interrupt, keyframe.request, ping, session.end
    server: session.ready, credit, playback.started, playback.finished, interrupted,
            stats, draining, pong, error
"""

from __future__ import annotations

import json
import math
import types
from dataclasses import MISSING, asdict, dataclass, fields, is_dataclass
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from engine.errors import LipwireError
from server.quoting import quoted

CHANNEL = "lipwire"
MAX_MESSAGE_BYTES = 16_384

AudioCodec = Literal["pcm16", "opus"]
VideoCodec = Literal["jpeg", "h264"]
RateHz = Literal[16_000, 48_000]


class ProtocolError(LipwireError):
    """A message that cannot be understood.

    Attributes:
        code: short name for programs.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True, slots=True)
class StartMessage:
    """WebSocket only, the first message: what sound and pictures the client wants.

    Attributes:
        rate_hz: of pcm16 sound, both ways; Opus has 48 kHz.
    """

    audio: AudioCodec = "pcm16"
    rate_hz: RateHz = 48_000
    video: VideoCodec = "jpeg"


@dataclass(frozen=True, slots=True)
class SegmentEndMessage:
    """The utterance is complete."""


@dataclass(frozen=True, slots=True)
class FlushMessage:
    """What has come so far is to be played without waiting for more."""


@dataclass(frozen=True, slots=True)
class InterruptMessage:
    """Everything said so far is void."""


@dataclass(frozen=True, slots=True)
class KeyframeMessage:
    """The next picture is to need no other: a decoder starts here."""


@dataclass(frozen=True, slots=True)
class PingMessage:
    """Asks for a pong that carries `t` back."""

    t: float | int | str | None = None


@dataclass(frozen=True, slots=True)
class EndMessage:
    """The client hangs up."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What a session may do.

    Attributes:
        audio_window_us: speech that may wait for its turn; None where none waits.
    """

    max_session_s: float
    resume_within_s: float
    max_width: int
    max_height: int
    audio_window_us: int | None = None


@dataclass(frozen=True, slots=True)
class ReadyMessage:
    """The session has begun, or goes on over this connection.

    Attributes:
        epoch_ntp_us: NTP time of media time 0, as sender reports have it; None over a WebSocket,
            whose packets carry media time.
        backend_reason: why this backend runs; None where none does.
    """

    session: str
    mode: str
    avatar: str | None
    backend: str
    model: str
    limits: Limits
    resume_token: str | None
    resumed: bool
    epoch_ntp_us: int | None = None
    backend_reason: str | None = None


@dataclass(frozen=True, slots=True)
class CreditMessage:
    """Sound of this generation may be sent up to `until_us`, counted from its first sample."""

    generation: int
    until_us: int


@dataclass(frozen=True, slots=True)
class PlaybackStartedMessage:
    """The first sample of an utterance leaves."""

    generation: int
    segment: int


@dataclass(frozen=True, slots=True)
class PlaybackFinishedMessage:
    """No more of an utterance will leave.

    Attributes:
        position_us: how much of it has left.
    """

    generation: int
    segment: int
    position_us: int
    interrupted: bool


@dataclass(frozen=True, slots=True)
class InterruptedMessage:
    """An interrupt is in force."""

    generation: int


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
        hop_frames: pictures that the engine makes at once; None: it has made none yet.
        stalled: nothing arrives from the peer.
        backend_reason: why this backend runs; None where none does.
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
    hop_frames: int | None
    backend: str
    engine: str
    stalled: bool
    backend_reason: str | None = None


@dataclass(frozen=True, slots=True)
class DrainingMessage:
    """The server is about to end."""

    seconds: float


@dataclass(frozen=True, slots=True)
class PongMessage:
    """The answer to a ping."""

    t: float | int | str | None


@dataclass(frozen=True, slots=True)
class ErrorMessage:
    """Something was not understood or went wrong; a fatal one ends the call."""

    code: str
    message: str
    fatal: bool = False
    retry_after_ms: int | None = None


ClientMessage = (
    StartMessage
    | SegmentEndMessage
    | FlushMessage
    | InterruptMessage
    | KeyframeMessage
    | PingMessage
    | EndMessage
)
ServerMessage = (
    ReadyMessage
    | CreditMessage
    | PlaybackStartedMessage
    | PlaybackFinishedMessage
    | InterruptedMessage
    | Stats
    | DrainingMessage
    | PongMessage
    | ErrorMessage
)
CLIENT_TYPES: dict[str, type[ClientMessage]] = {
    "session.start": StartMessage,
    "segment.end": SegmentEndMessage,
    "flush": FlushMessage,
    "interrupt": InterruptMessage,
    "keyframe.request": KeyframeMessage,
    "ping": PingMessage,
    "session.end": EndMessage,
}
SERVER_TYPES: dict[str, type[ServerMessage]] = {
    "session.ready": ReadyMessage,
    "credit": CreditMessage,
    "playback.started": PlaybackStartedMessage,
    "playback.finished": PlaybackFinishedMessage,
    "interrupted": InterruptedMessage,
    "stats": Stats,
    "draining": DrainingMessage,
    "pong": PongMessage,
    "error": ErrorMessage,
}
_NAMES = {cls: name for name, cls in (*CLIENT_TYPES.items(), *SERVER_TYPES.items())}


def encode_message(message: ClientMessage | ServerMessage) -> str:
    """A message as JSON."""
    fields_ = {"type": _NAMES[type(message)], **asdict(message)}
    return json.dumps(fields_, separators=(",", ":"))


def decode_client(data: str | bytes) -> ClientMessage:
    """What a client said.

    Raises:
        ProtocolError: too long, no JSON object, an unknown type or a wrong field.
    """
    kind, body = _parse(data, CLIENT_TYPES)
    message: ClientMessage = _build(CLIENT_TYPES[kind], body, kind)
    return message


def decode_server(data: str | bytes) -> ServerMessage:
    """What a server said.

    Raises:
        ProtocolError: too long, no JSON object, an unknown type or a wrong field.
    """
    kind, body = _parse(data, SERVER_TYPES)
    message: ServerMessage = _build(SERVER_TYPES[kind], body, kind)
    return message


def _parse(data: str | bytes, known: dict[str, Any]) -> tuple[str, dict[str, Any]]:
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
    kind = message.get("type")
    if not isinstance(kind, str) or kind not in known:
        names = ", ".join(known)
        raise ProtocolError("unknown_type", f"expected a type of {names}, got {quoted(kind)}")
    return kind, message


def _build(cls: type[Any], body: dict[str, Any], where: str) -> Any:
    values = {}
    for name, wanted, required in _schema(cls):
        if name in body:
            values[name] = _value(wanted, body[name], f"{where}: {name}")
        elif required:
            raise ProtocolError("bad_field", f"{where}: expected a field {name}, got none")
    return cls(**values)


def _schema(cls: type[Any]) -> tuple[tuple[str, Any, bool], ...]:
    hints = get_type_hints(cls)
    return tuple((f.name, hints[f.name], f.default is MISSING) for f in fields(cls))


def _value(wanted: Any, value: Any, where: str) -> Any:
    options = get_args(wanted) if _is_union(wanted) else (wanted,)
    for option in options:
        if is_dataclass(option) and isinstance(option, type) and isinstance(value, dict):
            return _build(option, value, where)
        if _fits(option, value):
            return float(value) if option is float and int not in options else value
    names = " or ".join(_name(option) for option in options)
    raise ProtocolError("bad_field", f"{where}: expected {names}, got {quoted(value)}")


def _is_union(wanted: Any) -> bool:
    return get_origin(wanted) in (Union, types.UnionType)


def _fits(option: Any, value: Any) -> bool:
    if get_origin(option) is Literal:
        return not isinstance(value, bool) and value in get_args(option)
    if option in (int, float) and isinstance(value, bool):
        return False
    if option is float and isinstance(value, float):
        return math.isfinite(value)
    if option in (int, float):
        return isinstance(value, int) and abs(value) < 2**63
    return isinstance(option, type) and isinstance(value, option)


def _name(option: Any) -> str:
    if get_origin(option) is Literal:
        return " or ".join(str(choice) for choice in get_args(option))
    known = {int: "a whole number", float: "a number", str: "a string", bool: "true or false"}
    return known.get(option, "null" if option is type(None) else "an object")
