"""What a call begins with, from figures of an engine that runs nowhere."""

from __future__ import annotations

from server.calls.session import Session
from server.calls.session_terms import PLAYOUT_SLACK_MS, media_limits, ready_message
from server.config import Settings
from server.engine_link.messages import EngineReady, Mode
from server.media.media_clock import SOUND_TICKS, TICKS_PER_MS
from server.metrics.counters import Transport

READY = EngineReady("m", "b", 128, 4, 1320, 30.0, shorter_hops_ms={2: 20.0})


def test_sound_waits_for_a_hop_its_look_ahead_and_half_more_than_it_computes() -> None:
    limits = media_limits(Settings(), READY, (64, 48))
    hop_ms, look_ahead_ms = 2 * 40, 1320 / 16
    expected_ms = hop_ms + look_ahead_ms + 1.5 * 20 + PLAYOUT_SLACK_MS
    assert limits.initial_delay == expected_ms * TICKS_PER_MS
    assert (limits.hop_frames, limits.largest) == (2, (64, 48))


def test_a_delay_that_the_operator_chose_replaces_the_engines_own() -> None:
    limits = media_limits(Settings(playout_delay_ms=200), READY, (64, 48))
    assert limits.initial_delay == 200 * TICKS_PER_MS


def test_a_hop_becomes_due_at_the_end_of_a_packet() -> None:
    limits = media_limits(Settings(), READY, (64, 48))
    assert (limits.lookahead - limits.lead) % SOUND_TICKS == 0
    assert 0 <= limits.lead < SOUND_TICKS


def test_only_a_call_over_webrtc_can_be_resumed() -> None:
    webrtc = ready_message(Settings(), READY, Session("avatar", "ada", (64, 48)))
    assert webrtc.resume_token is not None
    assert webrtc.limits.resume_within_s > 10
    socket = Session("avatar", "ada", (64, 48), transport="websocket")
    message = ready_message(Settings(), READY, socket)
    assert message.resume_token is None
    assert message.limits.resume_within_s == 0


def test_only_speech_that_is_sent_ahead_has_a_window() -> None:
    def window(mode: Mode, transport: Transport) -> int | None:
        session = Session(mode, None, (64, 48), transport=transport)
        return ready_message(Settings(), READY, session).limits.audio_window_us

    assert window("avatar", "websocket") == Settings().audio_window_ms * 1000
    assert window("live", "websocket") is None
    assert window("avatar", "webrtc") is None


def test_a_greeting_after_the_first_says_that_the_call_was_resumed() -> None:
    session = Session("live", None, (64, 48))
    assert not ready_message(Settings(), READY, session).resumed
    session.connected.set()
    assert ready_message(Settings(), READY, session).resumed
