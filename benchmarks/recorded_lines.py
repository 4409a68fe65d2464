"""Calls over both transports that write down what comes back, and when.

What a player would do with it is left to who reads the log: sound says from when on it could be
played, a picture from when on it could be shown.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, Protocol

import cv2
import numpy as np

from engine.media import FPS, U8
from server.client import socket_call, webrtc_call
from server.client.capture import I16
from server.client.webrtc_connection import ReceivedPicture, ReceivedSound
from server.media.av_frames import mono_from_frame
from server.protocol import InterruptedMessage
from server.websocket.wire import Packet, PacketType

Transport = Literal["websocket", "webrtc"]

FRAME_US = 1_000_000 // FPS


@dataclass(frozen=True, slots=True)
class HeardBlock:
    """Sound that could be played from `at` on: int16 [n] at 48 kHz."""

    at: float
    samples: I16
    generation: int | None


@dataclass(frozen=True, slots=True)
class SeenPicture:
    """A picture that could be shown at `at`: its place on media time and its luma, or a JPEG."""

    at: float
    frame: int
    picture: U8 | bytes
    generation: int | None

    def luma(self) -> U8:
        """uint8 [h, w], limited range."""
        if isinstance(self.picture, bytes):
            bgr = cv2.imdecode(np.frombuffer(self.picture, np.uint8), cv2.IMREAD_COLOR)
            assert bgr is not None
            return np.asarray(cv2.cvtColor(bgr, cv2.COLOR_BGR2YUV_I420)[: len(bgr)], np.uint8)
        return self.picture


@dataclass(slots=True)
class Log:
    """What came back, in order, and when interrupts were said to be in force."""

    sound: list[HeardBlock] = field(default_factory=list)
    pictures: list[SeenPicture] = field(default_factory=list)
    told: list[float] = field(default_factory=list)

    def forget_pixels(self) -> None:
        """Keeps of each picture when it came and what it is, not how it looks."""
        self.pictures = [replace(picture, picture=b"") for picture in self.pictures]


class Line(Protocol):
    """A call over one of the transports."""

    log: Log

    async def say(self, samples: I16) -> bool: ...

    async def interrupt(self) -> None: ...


class SocketLine:
    """A call over a WebSocket."""

    def __init__(self, call: socket_call.SocketCall) -> None:
        self.log = Log()
        self._call = call

    async def say(self, samples: I16) -> bool:
        return await self._call.say(samples)

    async def interrupt(self) -> None:
        await self._call.interrupt()

    async def read(self) -> None:
        async for event in self._call:
            now = time.monotonic()
            if isinstance(event, InterruptedMessage):
                self.log.told.append(now)
            elif isinstance(event, Packet) and event.type is PacketType.AUDIO:
                samples = np.frombuffer(event.payload, "<i2").astype(np.int16)
                self.log.sound.append(HeardBlock(now, samples, event.generation))
            elif isinstance(event, Packet):
                frame = event.pts_us // FRAME_US
                self.log.pictures.append(SeenPicture(now, frame, event.payload, event.generation))


class WebRtcLine:
    """A call over WebRTC."""

    def __init__(self, call: webrtc_call.WebRtcCall) -> None:
        self.log = Log()
        self._call = call

    async def say(self, samples: I16) -> bool:
        return await self._call.say(samples)

    async def interrupt(self) -> None:
        await self._call.interrupt()

    async def read(self) -> None:
        async for event in self._call:
            if isinstance(event, InterruptedMessage):
                self.log.told.append(time.monotonic())
            elif isinstance(event, ReceivedSound):
                block = HeardBlock(event.arrived, mono_from_frame(event.frame), None)
                self.log.sound.append(block)
            elif isinstance(event, ReceivedPicture) and event.pts_us is not None:
                frame = round(event.pts_us / FRAME_US)
                luma = np.asarray(event.frame.to_ndarray(), np.uint8)[: event.frame.height]
                self.log.pictures.append(SeenPicture(event.arrived, frame, luma, None))


@asynccontextmanager
async def open_line(
    transport: Transport, url: str, avatar: str, camera: Path | None = None
) -> AsyncIterator[Line]:
    """A call that is read as it comes.

    Args:
        camera: of a call in live mode over WebRTC, a video file.
    """
    line: SocketLine | WebRtcLine
    if transport == "websocket":
        async with socket_call.open_call(url, avatar=avatar) as call:
            line = SocketLine(call)
            async with _reading(line):
                yield line
    else:
        calling = (
            webrtc_call.open_call(url, avatar=avatar)
            if camera is None
            else webrtc_call.open_call(url, mode="live", camera=camera)
        )
        async with calling as rtc_call:
            line = WebRtcLine(rtc_call)
            async with _reading(line):
                yield line


@asynccontextmanager
async def _reading(line: SocketLine | WebRtcLine) -> AsyncIterator[None]:
    reading = asyncio.create_task(line.read())
    try:
        yield
    finally:
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)
