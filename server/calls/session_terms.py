"""What a call begins with: the bounds of its media, and what its client is told of them. Pure."""

from __future__ import annotations

from server.calls.session import Session
from server.calls.silence import heard_within_s
from server.config import Settings
from server.engine_link.messages import EngineReady
from server.media.media_clock import FRAME_TICKS, SOUND_TICKS, TICKS_PER_MS, TICKS_PER_SAMPLE
from server.media.session_media import MediaLimits
from server.protocol import Limits, ReadyMessage

PLAYOUT_SLACK_MS = 35  # a packet, and a busy machine, until the real delay has been observed
RESAMPLER_TICKS = 54  # the 16 kHz sound lags the packet it came in by this much


def media_limits(settings: Settings, ready: EngineReady, largest: tuple[int, int]) -> MediaLimits:
    """The bounds of a call's media, from the settings and the engine's own figures.

    Args:
        largest: width and height of its largest picture.
    """
    lookahead = ready.lookahead_samples * TICKS_PER_SAMPLE + RESAMPLER_TICKS
    return MediaLimits(
        largest=largest,
        initial_delay=_initial_delay(settings, ready),
        max_delay=settings.max_playout_delay_ms * TICKS_PER_MS,
        hop_frames=ready.shortest_hop[0],
        # A hop becomes due this long after the end of a packet: let a packet end there.
        lead=lookahead % SOUND_TICKS,
        lookahead=lookahead,
    )


def ready_message(settings: Settings, ready: EngineReady, session: Session) -> ReadyMessage:
    """The greeting of a connection, the first or a later one of its call."""
    # A WebSocket's call ends with it: there is nothing to resume.
    by_socket = session.transport == "websocket"
    queued = by_socket and session.mode == "avatar"
    limits = Limits(
        max_session_s=settings.max_session_s,
        resume_within_s=0 if by_socket else heard_within_s(settings.idle_timeout_s),
        max_width=session.largest[0],
        max_height=session.largest[1],
        audio_window_us=settings.audio_window_ms * 1000 if queued else None,
    )
    return ReadyMessage(
        session.id[:8],
        session.mode,
        session.avatar,
        ready.backend,
        ready.model,
        limits,
        None if by_socket else session.resume_token,
        resumed=session.connected.is_set(),
        backend_reason=ready.backend_reason,
    )


def _initial_delay(settings: Settings, ready: EngineReady) -> int:
    """Ticks until the first frame of a hop can be shown."""
    if settings.playout_delay_ms is not None:
        return settings.playout_delay_ms * TICKS_PER_MS
    hop_frames, hop_ms = ready.shortest_hop
    compute_ms = 1.5 * hop_ms + PLAYOUT_SLACK_MS
    return (
        hop_frames * FRAME_TICKS
        + ready.lookahead_samples * TICKS_PER_SAMPLE
        + int(compute_ms * TICKS_PER_MS)
    )
