"""Watches one call: signs of life, figures once a second, and when it has to end."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from server.calls.session import Session
from server.calls.silence import LOOK_INTERVAL_S, Silence
from server.config import Settings
from server.protocol import ErrorMessage
from server.webrtc.peer import Peer

LOOKS_A_FIGURE = round(1.0 / LOOK_INTERVAL_S)  # the figures are sent once a second


async def reason_to_end(
    session: Session, settings: Settings, note_late: Callable[[int], None]
) -> str:
    """Why the call has to end, as soon as it has to; the client has then been told.

    Args:
        session: its media and peer are there.
        note_late: told once a second how many hops came late.
    """
    media = session.media
    assert media is not None
    try:
        await asyncio.wait_for(session.connected.wait(), settings.connect_timeout_s)
    except TimeoutError:
        return "never_connected"
    silence, looks, late_hops = Silence(time.monotonic()), 0, 0
    session.silence = silence
    while True:
        await asyncio.sleep(min(LOOK_INTERVAL_S, silence.left_s(settings.idle_timeout_s)))
        now, peer = time.monotonic(), session.peer
        assert peer is not None
        looks += 1
        silence.look(await peer.packets_received(), now)
        if looks % LOOKS_A_FIGURE == 0:
            stats = media.stats(stalled=silence.longest_s > settings.stalled_after_s)
            session.send(stats)
            if isinstance(peer, Peer):
                peer.measure()
            note_late(stats.late_hops - late_hops)
            late_hops = stats.late_hops
        if media.failure is not None:
            session.send(ErrorMessage(*media.failure, fatal=True))
            return "engine_refused"
        if silence.left_s(settings.idle_timeout_s) <= 0:
            return "idle"
        if now - session.began > settings.max_session_s:
            session.send(ErrorMessage("session_limit", "the call's time is up", fatal=True))
            return "time_limit"
