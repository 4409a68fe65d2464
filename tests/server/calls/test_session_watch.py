"""When a session ends by itself, on a clock that the test turns."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any, cast

import pytest

from server.calls import session, session_watch, sessions
from server.calls.silence import heard_within_s
from server.config import Settings
from server.media.tracks import SoundOut, VideoOut
from server.message_rate import SocketRate
from server.metrics.counters import Metrics
from server.protocol import Percentiles, ServerMessage, StartMessage, Stats
from server.websocket.socket_peer import SocketPeer

LATE_S = 0.03  # a busy loop: every sleep takes this much longer
PING_S = 0.04


class Clock:
    """`time.monotonic`, and a sleep that turns it instead of waiting."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.now += seconds + LATE_S


class Peer:
    """A client that sends packets until the clock says so, and whose connection closes slowly."""

    def __init__(self, clock: Clock, until: float) -> None:
        self._clock = clock
        self._until = until
        self.sent: list[ServerMessage] = []

    async def close(self) -> None:
        self._clock.now += 5.0

    async def packets_received(self) -> int:
        return int(min(self._clock.now, self._until) * 50)

    def send(self, message: ServerMessage) -> None:
        self.sent.append(message)


class SocketClient:
    """The same over a WebSocket: a ping every 40 ms until the clock says so."""

    def __init__(self, clock: Clock, until: float) -> None:
        self._clock = clock
        self._until = until
        self._pinged = clock.now
        start = StartMessage(rate_hz=16_000, video="jpeg")
        unused = cast(
            Any, SimpleNamespace(sound_out=SoundOut(0), video_out=VideoOut(0), speech=None)
        )
        self._peer = SocketPeer(
            cast(Any, self), start, "avatar", unused, cast(Any, None), lambda _: None
        )
        self._peer._rate = SocketRate(window_ms=0, clock=clock.monotonic)
        self.sent: list[ServerMessage] = []

    async def receive(self) -> dict[str, Any]:
        """What the server's end reads."""
        return {"type": "websocket.receive", "text": '{"type": "ping", "t": 1}'}

    async def packets_received(self) -> int:
        while self._pinged + PING_S < min(self._clock.now, self._until):
            self._pinged += PING_S
            await self._peer._receive()
            self._peer._messages.get_nowait()  # the pong
        return await self._peer.packets_received()

    def send(self, message: ServerMessage) -> None:
        self.sent.append(message)

    async def close(self) -> None:
        """Nothing to close."""


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
        hop_frames=None,
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


Client = type[Peer] | type[SocketClient]


def _watch(
    monkeypatch: pytest.MonkeyPatch, vanishes_after_s: float, client: Client = Peer
) -> tuple[float, Peer | SocketClient, Metrics]:
    """Seconds until the place of the session was free, its peer, and the metrics."""
    clock = Clock()
    began = clock.now
    stopped = {**vars(asyncio), "sleep": clock.sleep}
    monkeypatch.setattr(session_watch, "asyncio", SimpleNamespace(**stopped))
    for module in (session, session_watch, sessions):
        monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=clock.monotonic))
    metrics, unused = Metrics(), cast(Any, SimpleNamespace())
    left_at: list[float] = []
    places = cast(
        Any,
        SimpleNamespace(leave=lambda _: left_at.append(clock.now), note_late=lambda hops: None),
    )
    peer = client(clock, began + vanishes_after_s)

    async def main() -> None:
        all_sessions = sessions.Sessions(Settings(), unused, unused, metrics, places)
        watched = session.Session("live", None, (64, 48))
        watched.peer, watched.media = cast(Any, peer), cast(Any, Media())
        watched.connected.set()
        all_sessions._sessions[watched.id] = watched
        await all_sessions._watch(watched)
        await all_sessions.close()
        assert all_sessions.count == 0

    asyncio.run(main())
    return left_at[0] - began, peer, metrics


@pytest.mark.parametrize("client", [Peer, SocketClient], ids=["webrtc", "websocket"])
@pytest.mark.parametrize("last_packet_s", [5 + 0.07 * step for step in range(9)])
def test_a_client_that_vanishes_is_freed_within_15_s_of_its_last_packet(
    monkeypatch: pytest.MonkeyPatch, last_packet_s: float, client: Client
) -> None:
    freed, _, metrics = _watch(monkeypatch, last_packet_s, client)
    promised = heard_within_s(Settings().idle_timeout_s)
    assert promised >= 14
    assert promised - PING_S <= freed - last_packet_s <= 15
    assert b'ended_total{reason="idle",transport="webrtc"} 1.0' in metrics.render()


def test_a_client_that_vanishes_is_told_once_a_second_in_case_it_still_hears(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    _, peer, _ = _watch(monkeypatch, vanishes_after_s=100)
    told = [message for message in peer.sent if isinstance(message, Stats) and message.stalled]
    assert len(told) == pytest.approx(11, abs=1)


def test_a_client_that_goes_on_sending_stays_until_its_hour_is_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ended, peer, metrics = _watch(monkeypatch, vanishes_after_s=1e9)
    assert 3600 <= ended <= 3601
    assert len(peer.sent) > 3100, "figures come once a second, or a little less often when busy"
    assert b'ended_total{reason="time_limit",transport="webrtc"} 1.0' in metrics.render()
