"""Places that the engine leaves empty show the source's own pictures, on a turned clock."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from fractions import Fraction
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from av import AudioFrame, VideoFrame

from engine.media import F32, Picture
from server.engine_link.messages import HopReady, Mode
from server.engine_link.stream import EngineFrame
from server.media import session_media
from server.media.av_frames import frame_from_picture
from server.media.media_clock import FRAME_TICKS, SOUND_TICKS, TICK_HZ, TICKS_PER_MS
from server.media.session_media import MediaLimits, SessionMedia
from server.media.tracks import SoundOut, VideoOut
from server.metrics.counters import Metrics
from server.protocol import StartMessage
from server.websocket import socket_peer
from server.websocket.socket_peer import SocketPeer
from server.websocket.wire import Packet, decode_packet

DELAY = 100 * TICKS_PER_MS
SPEAKING, RESTING = 200, 100  # levels of the engine's pictures and of the clip's


def _picture(level: int) -> Picture:
    return Picture(np.full((72, 64), level, np.uint8))


class Engine:
    """Makes a picture of each frame of sound until it falls silent; is its own stream."""

    ready = None
    state = "ready"
    camera_drops = 0

    def open_stream(self, *_: object) -> Engine:
        return self

    def push_audio(self, samples: F32) -> None:
        """Heard."""

    def push_video(self, picture: Picture, pts_samples: int) -> None:
        """Seen."""

    def interrupt(self, generation: int) -> None:
        """Nothing is answered."""


class Clip:
    """A clip whose every picture is of one level."""

    patience = 3 * FRAME_TICKS
    mixes = True

    def at(self, pts: int) -> Picture | None:
        return _picture(RESTING)


class Call:
    """A call in which somebody talks without a pause.

    Attributes:
        makes: whether the engine makes pictures now.
        shown: place and level of every picture that left.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch, mode: Mode) -> None:
        self.now = self.packets = self.frames = 0
        self.makes = True
        self.shown: list[tuple[int, int]] = []
        monkeypatch.setattr(session_media, "now_ticks", lambda: self.now)
        limits = MediaLimits((64, 48), DELAY, TICK_HZ, 1)
        engine, unused = cast(Any, Engine()), cast(Any, SimpleNamespace())
        clip = Clip() if mode == "avatar" else None
        self.media = SessionMedia("s", mode, None, engine, Metrics(), limits, unused, clip)
        self.media.start()

    def talk(self, frames: int) -> None:
        """Lets frames of 40 ms pass."""
        for _ in range(frames):
            for _ in range(FRAME_TICKS // SOUND_TICKS):
                for _ in range(SOUND_TICKS // TICKS_PER_MS):
                    self.now += TICKS_PER_MS
                    self.media._tick()
                self._hear()
            self._see()
            if self.makes:
                frame = EngineFrame(self.frames, 0, 1.0, _picture(SPEAKING))
                self.media.on_hop([frame], HopReady("s", (), 1.0))
            self.frames += 1
            queue = self.media.video_out._queue
            while not queue.empty():
                shown = queue.get_nowait()
                assert shown is not None and shown.pts is not None
                self.shown.append((shown.pts // 3600, int(shown.to_ndarray()[0, 0])))

    def _hear(self) -> None:
        frame = AudioFrame.from_ndarray(
            np.full((1, SOUND_TICKS), 9000, np.int16), format="s16", layout="mono"
        )
        frame.sample_rate, frame.pts = TICK_HZ, self.packets * SOUND_TICKS
        self.packets += 1
        self.media.push_sound(frame)

    def _see(self) -> None:
        """The camera's picture says at which frame it was taken."""
        frame = VideoFrame.from_ndarray(_picture(self.frames).i420, format="yuv420p")
        frame.pts, frame.time_base = self.frames * 3600, Fraction(1, 90_000)
        self.media.push_camera(frame)


@pytest.fixture
def scenario(monkeypatch: pytest.MonkeyPatch) -> Callable[[Mode, Callable[[Call], None]], None]:
    def run(mode: Mode, act: Callable[[Call], None]) -> None:
        async def main() -> None:
            call = Call(monkeypatch, mode)
            call.talk(20)
            assert call.shown[-1][1] == SPEAKING
            act(call)

        asyncio.run(main())

    return run


Scenario = Callable[[Mode, Callable[[Call], None]], None]


@pytest.mark.parametrize("mode", ["avatar", "live"])
def test_an_engine_that_never_answers_an_interrupt_leaves_no_place_empty(
    scenario: Scenario, mode: Mode
) -> None:
    def act(call: Call) -> None:
        call.makes = False
        before = len(call.shown)
        call.media.interrupt()
        call.talk(40)
        places = [place for place, _ in call.shown]
        assert np.diff(places).tolist() == [1] * (len(places) - 1)
        after = [level for _, level in call.shown[before:]]
        assert len(after) >= 40
        if mode == "avatar":
            assert after[0] in (RESTING, (RESTING + SPEAKING) // 2)
            assert set(after[1:]) == {RESTING}
        else:
            assert np.diff(after).tolist() == [1] * (len(after) - 1), "what the camera saw"
        assert call.media.stats(stalled=False).missing_frames == 0

    scenario(mode, act)


def test_a_picture_that_waits_for_the_encoder_gives_its_place_to_the_source(
    scenario: Scenario,
) -> None:
    def act(call: Call) -> None:
        place = call.shown[-1][0]
        void = frame_from_picture(_picture(SPEAKING), place * FRAME_TICKS)
        call.media.video_out.release(void)
        call.media.interrupt()
        before = len(call.shown)
        call.talk(3)
        assert call.shown[before] == (place, RESTING)
        assert {level for _, level in call.shown[before:]} == {RESTING}, "it does not open again"

    scenario("avatar", act)


def test_so_does_a_picture_that_is_with_a_sockets_encoder(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    media = SimpleNamespace(
        generation=0, speech=None, sound_out=SoundOut(0), video_out=VideoOut(0), shown=[]
    )

    def rest(frame: VideoFrame) -> None:
        media.video_out.release(frame_from_picture(_picture(RESTING), 0))

    def encode(frame: VideoFrame, key_frame: bool) -> tuple[bytes, int]:
        level = int(frame.to_ndarray()[0, 0])
        if level == SPEAKING:
            media.generation += 1  # an interrupt comes while it is with the encoder
        return bytes([level, key_frame]), 0

    async def main() -> Packet:
        sent: asyncio.Queue[bytes] = asyncio.Queue()
        socket = cast(Any, SimpleNamespace(send_bytes=sent.put))
        log = cast(Any, SimpleNamespace())
        peer = SocketPeer(socket, StartMessage(), "avatar", cast(Any, media), log, lambda why: None)
        peer._sound_sent.set()
        media.video_out.release(frame_from_picture(_picture(SPEAKING), 0))
        sending = asyncio.create_task(peer._send_pictures())
        packet = decode_packet(await sent.get())
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)
        return packet

    media.rest_in_place_of = rest
    monkeypatch.setattr(socket_peer, "picture_encoder", lambda video: encode)
    packet = asyncio.run(main())
    assert (packet.generation, packet.payload) == (1, bytes([RESTING, True]))


def test_an_avatar_whose_engine_is_gone_stays_for_three_places_and_rests_then(
    scenario: Scenario,
) -> None:
    def act(call: Call) -> None:
        call.makes = False
        call.talk(30)
        last = max(place for place, level in call.shown if level == SPEAKING)
        resting = [place for place, level in call.shown if level == RESTING]
        assert resting == list(range(last + 4, last + 4 + len(resting))) and len(resting) > 20

    scenario("avatar", act)


def test_a_camera_stands_in_for_an_engine_that_is_gone_at_once(scenario: Scenario) -> None:
    def act(call: Call) -> None:
        call.makes = False
        call.talk(30)
        places = [place for place, _ in call.shown]
        assert np.diff(places).tolist() == [1] * (len(places) - 1)

    scenario("live", act)
