"""Clients of a WebSocket that read slowly, or nothing: sound first, pictures as there is room."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from functools import partial
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from av import AudioFrame, VideoFrame
from fastapi import WebSocket
from starlette.websockets import WebSocketState

from server.logs import SessionLog
from server.media.av_frames import frame_from_sound
from server.media.media_clock import SOUND_TICKS
from server.media.session_media import SessionMedia
from server.media.tracks import SOUND_QUEUE_BLOCKS, VIDEO_QUEUE_FRAMES, SoundOut, VideoOut
from server.protocol import PongMessage, StartMessage
from server.websocket import socket_peer
from server.websocket.socket_peer import SocketPeer
from server.websocket.wire import Packet, PacketType, decode_packet


class SlowSocket:
    """A client that reads one message whenever it is told to: the next send waits for that."""

    application_state = WebSocketState.CONNECTED

    def __init__(self) -> None:
        self.sent: list[Packet | str] = []
        self.closed_with: int | None = None
        self._room = asyncio.Semaphore(1)

    def read_one(self) -> None:
        self._room.release()

    async def send_bytes(self, data: bytes) -> None:
        await self._room.acquire()
        self.sent.append(decode_packet(data))

    async def send_text(self, text: str) -> None:
        await self._room.acquire()
        self.sent.append(text)

    async def close(self, code: int) -> None:
        self.closed_with = code

    def count(self, type_: PacketType) -> int:
        return sum(isinstance(item, Packet) and item.type is type_ for item in self.sent)


class Call:
    """A peer between a slow client and tracks that a test fills."""

    def __init__(self) -> None:
        self.sound, self.pictures = SoundOut(0), VideoOut(0)
        media = SimpleNamespace(
            sound_out=self.sound, video_out=self.pictures, speech=None, generation=0
        )
        self.socket = SlowSocket()
        self.ends: list[str] = []
        self._blocks = 0
        self.peer = SocketPeer(
            cast(WebSocket, self.socket),
            StartMessage(rate_hz=48_000),
            "avatar",
            cast(SessionMedia, media),
            SessionLog(logging.getLogger(__name__), "test"),
            self.ends.append,
        )

    def has_heard(self, blocks: int) -> bool:
        return self.socket.count(PacketType.AUDIO) >= blocks

    def play(self) -> None:
        """40 ms of media time: two blocks of sound and a picture."""
        for _ in range(2):
            pts = self._blocks * SOUND_TICKS
            self.sound.release(sound(pts))
            self._blocks += 1
        self.pictures.release(picture())


def sound(pts: int) -> AudioFrame:
    return frame_from_sound(np.zeros(SOUND_TICKS, np.int16), pts)


def picture() -> VideoFrame:
    return VideoFrame.from_ndarray(np.full((72, 64), 128, np.uint8), format="yuv420p")


@pytest.fixture(autouse=True)
def short_farewell(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket_peer, "CLOSE_TIMEOUT_S", 0.05)


def run(scenario: Callable[[Call], Awaitable[None]]) -> None:
    async def main() -> None:
        call = Call()
        call.peer.begin()
        await asyncio.sleep(0)
        async with asyncio.timeout(20):
            await scenario(call)
        await call.peer.close()

    asyncio.run(main())


async def until(condition: Callable[[], Any]) -> None:
    while not condition():
        await asyncio.sleep(0.001)


def test_a_slow_client_gets_all_sound_and_fewer_pictures() -> None:
    async def scenario(call: Call) -> None:
        for step in range(20):
            call.play()
            for _ in range(2):  # it has room for two of the three
                call.socket.read_one()
            await until(partial(call.has_heard, 2 * step))
        while call.sound.waiting or call.pictures.waiting:
            call.socket.read_one()
            await asyncio.sleep(0.001)
        call.socket.read_one()
        await until(lambda: call.socket.count(PacketType.AUDIO) == 40)
        heard = [p.pts_us for p in call.socket.sent if isinstance(p, Packet) and p.codec == 1]
        assert heard == [number * 20_000 for number in range(40)]
        assert call.sound.dropped == 0 and call.pictures.dropped > 10
        assert not call.ends

    run(scenario)


def test_pictures_wait_while_sound_does() -> None:
    async def scenario(call: Call) -> None:
        call.play()
        await until(lambda: call.socket.sent)
        for _ in range(5):
            call.play()
        for _ in range(12):
            call.socket.read_one()
        await until(lambda: call.socket.count(PacketType.AUDIO) == 12)
        assert call.socket.count(PacketType.VIDEO) <= 1, "at most one was on its way before them"

    run(scenario)


def test_a_client_that_reads_nothing_is_let_go_with_1008(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket_peer, "SEND_TIMEOUT_S", 0.05)

    async def scenario(call: Call) -> None:
        for _ in range(SOUND_QUEUE_BLOCKS):
            call.play()
        await until(lambda: call.ends)
        assert call.ends[0] == "slow_reader"
        assert call.sound.waiting <= SOUND_QUEUE_BLOCKS
        assert call.pictures.waiting <= VIDEO_QUEUE_FRAMES
        await call.peer.close()
        assert call.socket.closed_with == 1008

    run(scenario)


def test_control_messages_that_nobody_reads_do_not_pile_up() -> None:
    async def scenario(call: Call) -> None:
        for number in range(10 * socket_peer.MAX_WAITING_MESSAGES):
            call.peer.send(PongMessage(number))
        assert set(call.ends) == {"slow_reader"}
        assert call.peer._messages.qsize() == socket_peer.MAX_WAITING_MESSAGES

    run(scenario)


def test_a_flood_of_control_messages_ends_the_call() -> None:
    async def scenario(call: Call) -> None:
        for _ in range(100):
            call.peer._take('{"type": "keyframe.request"}', None)
        assert set(call.ends) == {"flood"}
        assert "too_many" in repr(call.peer._messages)

    run(scenario)
