"""Calls that are recorded: a camera with numbered pictures, and all that comes back.

Every camera picture carries its number as a row of black and white fields along its top edge,
so that what comes back can be dated against what was sent.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Literal, TypeVar

import httpx
import numpy as np
from aiortc import MediaStreamTrack, RTCConfiguration
from aiortc.mediastreams import MediaStreamError
from av import VideoFrame

from server.client.capture import U8, Microphone
from server.client.errors import CallEnded
from server.client.webrtc_call import WebRtcCall, open_call
from server.client.webrtc_connection import Connection, ReceivedPicture, ReceivedSound
from server.protocol import ServerMessage

MessageT = TypeVar("MessageT", bound=ServerMessage)

SOUND_HZ = 48_000
BLOCK_SAMPLES = 960  # 20 ms
FPS = 25
MARK_BITS = 12
MARK_PX = 16  # side of one field: survives the encoder at low bitrates


def draw_mark(i420: U8, number: int) -> None:
    """Writes `number` into the top rows of a picture's Y plane, and greys their colour."""
    height, width = i420.shape[0] * 2 // 3, i420.shape[1]
    for bit in range(MARK_BITS):
        value = 235 if number >> bit & 1 else 16
        i420[:MARK_PX, bit * MARK_PX : (bit + 1) * MARK_PX] = value
    chroma = i420[height:].reshape(2, height // 2, width // 2)
    chroma[:, : MARK_PX // 2, : MARK_BITS * MARK_PX // 2] = 128


def read_mark(luma: U8) -> int:
    """The number that `draw_mark` wrote."""
    inner = slice(MARK_PX // 4, MARK_PX * 3 // 4)
    number = 0
    for bit in range(MARK_BITS):
        field_ = luma[inner, bit * MARK_PX + MARK_PX // 4 : bit * MARK_PX + MARK_PX * 3 // 4]
        number |= int(field_.mean() > 128) << bit
    return number


class Camera(MediaStreamTrack):
    """Shows pictures at 25 fps, each marked with its number.

    Attributes:
        taken: capture time of each number.
    """

    kind = "video"

    def __init__(self, picture: Callable[[int], U8]) -> None:
        super().__init__()
        self._picture = picture
        self._number = 0
        self._began: float | None = None
        self.taken: dict[int, float] = {}

    async def recv(self) -> VideoFrame:
        if self.readyState != "live":
            raise MediaStreamError
        if self._began is None:
            self._began = time.monotonic()
        due = self._began + self._number / FPS
        await asyncio.sleep(max(due - time.monotonic(), 0))
        i420 = self._picture(self._number).copy()
        draw_mark(i420, self._number % (1 << MARK_BITS))
        self.taken[self._number % (1 << MARK_BITS)] = time.monotonic()
        frame = VideoFrame.from_ndarray(i420, format="yuv420p")
        frame.pts = self._number * 3600
        frame.time_base = Fraction(1, 90_000)
        self._number += 1
        return frame


@dataclass(slots=True)
class Received:
    """What came back.

    Attributes:
        video: arrival, pts in 90 kHz, mark (-1 where pictures carry none), width, height.
        sound: arrival, pts in 48 kHz, loudest sample of the block and its place.
        video_us, sound_us: media times, where they were known.
        messages: the control messages.
    """

    video: list[tuple[float, int, int, int, int]] = field(default_factory=list)
    sound: list[tuple[float, int, int, int]] = field(default_factory=list)
    video_us: list[int | None] = field(default_factory=list)
    sound_us: list[int | None] = field(default_factory=list)
    messages: list[ServerMessage] = field(default_factory=list)

    def of_type(self, kind: type[MessageT]) -> list[MessageT]:
        """The messages of one type, in order."""
        return [message for message in self.messages if isinstance(message, kind)]


class Recording:
    """What a connection receives, kept as it comes.

    Attributes:
        received: what came back so far.
        last_picture: the newest picture, I420.
    """

    def __init__(self, *, marked: bool) -> None:
        """
        Args:
            marked: pictures carry the number that `Camera` drew on them.
        """
        self.received = Received()
        self.last_picture: U8 | None = None
        self._marked = marked
        self._changed = asyncio.Event()

    async def until(self, condition: Callable[[Received], bool], timeout_s: float = 10.0) -> None:
        """Waits until what came back fulfils a condition.

        Raises:
            TimeoutError: it did not in time.
        """
        async with asyncio.timeout(timeout_s):
            while not condition(self.received):
                self._changed.clear()
                await self._changed.wait()

    def take(self, event: ReceivedSound | ReceivedPicture | ServerMessage) -> None:
        """Keeps what has come."""
        received = self.received
        if isinstance(event, ReceivedSound):
            samples = np.abs(event.frame.to_ndarray().reshape(-1, 2)[:, 0].astype(np.int32))
            peak = int(samples.argmax())
            received.sound.append((event.arrived, event.timestamp, int(samples[peak]), peak))
            received.sound_us.append(event.pts_us)
        elif isinstance(event, ReceivedPicture):
            frame = event.frame
            i420 = np.asarray(frame.to_ndarray(format="yuv420p"), np.uint8)
            mark = read_mark(i420[: frame.height]) if self._marked else -1
            received.video.append((event.arrived, event.timestamp, mark, frame.width, frame.height))
            received.video_us.append(event.pts_us)
            self.last_picture = i420
        else:
            received.messages.append(event)
        self._changed.set()


class RecordedCall(Recording):
    """A call that is read as it comes.

    Attributes:
        call: the call itself.
        ended: why the call is over, None while it is not or where this side hung up.
    """

    def __init__(self, call: WebRtcCall, *, marked: bool) -> None:
        super().__init__(marked=marked)
        self.call = call
        self.ended: CallEnded | None = None

    async def read(self) -> None:
        """Reads until the call is over."""
        try:
            async for event in self.call:
                self.take(event)
        except CallEnded as error:
            self.ended = error


@asynccontextmanager
async def recorded_call(
    url: str,
    *,
    avatar: str | None = None,
    mode: Literal["avatar", "live"] = "avatar",
    sound: MediaStreamTrack | None = None,
    camera: Camera | None = None,
    http: httpx.AsyncClient | None = None,
    configuration: RTCConfiguration | None = None,
    resume: bool = False,
) -> AsyncIterator[RecordedCall]:
    """A call that is read as it comes; without `sound` it only listens."""
    async with open_call(
        url,
        avatar=avatar,
        mode=mode,
        sound=sound,
        camera=camera,
        listen_only=sound is None,
        http=http,
        configuration=configuration,
        resume=resume,
    ) as call:
        recording = RecordedCall(call, marked=camera is not None)
        reading = asyncio.create_task(recording.read())
        try:
            yield recording
        finally:
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)


async def an_offer(*, speaks: bool = False) -> str:
    """An SDP offer as the client makes it, of a connection that is closed already.

    Args:
        speaks: with a microphone and a camera.
    """
    microphone = Microphone() if speaks else None
    camera = Camera(lambda _: np.zeros((360, 320), np.uint8)) if speaks else None
    connection = Connection(
        microphone, camera, RTCConfiguration(iceServers=[]), lambda _: None, lambda: None
    )
    offer = await connection.offer()
    await connection.close()
    return offer


async def vanish(call: WebRtcCall) -> None:
    """Stops sending anything without a word, as a killed peer does."""
    for transceiver in call.connection.rtc.getTransceivers():
        await transceiver.sender.transport.transport.stop()
