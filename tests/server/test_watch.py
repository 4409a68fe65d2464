"""When a session ends by itself, on a clock that the test turns."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any, cast

import pytest

from server import sessions
from server.config import Settings
from server.metrics import Metrics
from server.protocol import Percentiles, Stats


class Clock:
    """`time.monotonic`, and a sleep that turns it instead of waiting."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.now += seconds


class Peer:
    """A client that sends packets until the clock says so."""

    def __init__(self, clock: Clock, until: float) -> None:
        self._clock = clock
        self._until = until
        self.sent: list[Stats] = []

    async def close(self) -> None:
        """Nothing to close."""

    async def packets_received(self) -> int:
        return int(min(self._clock.now, self._until) * 50)

    def send(self, message: Stats) -> None:
        self.sent.append(message)


HEARD, STALLED = (
    Stats(
        fps=25.0,
        late_hops=0,
        dropped_frames=0,
        missing_frames=0,
        server_latency_ms=Percentiles(None, None),
        capture_to_frame_ms=None,
        playout_delay_ms=0.0,
        synced=0.0,
        compute_ms=0.0,
        backend="none",
        engine="ready",
        stalled=stalled,
    )
    for stalled in (False, True)
)


class Media:
    failure = None

    def stats(self, *, stalled: bool) -> Stats:
        return STALLED if stalled else HEARD

    def close(self) -> None:
        """Nothing to give back."""


def _watch(monkeypatch: pytest.MonkeyPatch, vanishes_after_s: float) -> tuple[float, Peer, Metrics]:
    """Seconds until the session ended, its peer, and the metrics."""
    clock = Clock()
    began = clock.now
    stopped = {**vars(asyncio), "sleep": clock.sleep}
    monkeypatch.setattr(sessions, "asyncio", SimpleNamespace(**stopped))
    monkeypatch.setattr(sessions, "time", SimpleNamespace(monotonic=clock.monotonic))
    metrics, unused = Metrics(), cast(Any, SimpleNamespace())
    places = cast(Any, SimpleNamespace(leave=lambda session: None, note_late=lambda hops: None))
    peer = Peer(clock, began + vanishes_after_s)

    async def main() -> float:
        all_sessions = sessions.Sessions(Settings(), unused, unused, metrics, places)
        session = sessions.Session("live", None, (64, 48))
        session.peer, session.media = cast(Any, peer), cast(Any, Media())
        session.connected.set()
        all_sessions._sessions[session.id] = session
        await all_sessions._watch(session)
        ended = clock.now - began
        await all_sessions.close()
        assert all_sessions.count == 0
        return ended

    return asyncio.run(main()), peer, metrics


def test_a_client_that_vanishes_is_freed_within_15_s(monkeypatch: pytest.MonkeyPatch) -> None:
    ended, peer, metrics = _watch(monkeypatch, vanishes_after_s=100)
    assert 115 <= ended <= 117
    told = [message for message in peer.sent if message.stalled]
    assert len(told) == pytest.approx(12, abs=1), "after 3 s it is told, in case it still hears"
    assert b'ended_total{reason="idle"} 1.0' in metrics.render()


def test_a_client_that_goes_on_sending_stays_until_its_hour_is_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ended, _, metrics = _watch(monkeypatch, vanishes_after_s=1e9)
    assert 3600 <= ended <= 3602
    assert b'ended_total{reason="time_limit"} 1.0' in metrics.render()
