"""A peer that calls the server: microphone and camera out, sound and pictures in.

Every camera picture carries its number as a row of black and white fields
along its top edge, and the microphone plays clicks at known instants, so that
what comes back can be dated against what was sent.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import httpx
import numpy as np
from aiortc import (
    MediaStreamTrack,
    RTCConfiguration,
    RTCDataChannel,
    RTCPeerConnection,
    RTCSessionDescription,
)
from aiortc.mediastreams import MediaStreamError
from av import AudioFrame, VideoFrame
from numpy.typing import NDArray

I16 = NDArray[np.int16]
U8 = NDArray[np.uint8]

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


class Microphone(MediaStreamTrack):
    """Plays samples in 20 ms blocks at the speed of sound, then silence.

    Attributes:
        began: `time.monotonic` of the first sample's capture; None before that.
    """

    kind = "audio"

    def __init__(self, samples: I16) -> None:
        super().__init__()
        self._samples = samples
        self._next = 0
        self.began: float | None = None

    async def recv(self) -> AudioFrame:
        if self.readyState != "live":
            raise MediaStreamError
        if self.began is None:
            self.began = time.monotonic()
        # A block leaves when its last sample has been captured.
        due = self.began + (self._next + BLOCK_SAMPLES) / SOUND_HZ
        await asyncio.sleep(max(due - time.monotonic(), 0))
        block = np.zeros(BLOCK_SAMPLES, np.int16)
        rest = self._samples[self._next : self._next + BLOCK_SAMPLES]
        block[: len(rest)] = rest
        frame = AudioFrame.from_ndarray(block.reshape(1, -1), format="s16", layout="mono")
        frame.sample_rate = SOUND_HZ
        frame.pts = self._next
        frame.time_base = Fraction(1, SOUND_HZ)
        self._next += BLOCK_SAMPLES
        return frame


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
        video: arrival, pts in 90 kHz, luma mark (-1 where pictures carry none), width, height.
        sound: arrival, pts in 48 kHz, loudest sample of the block and its place.
        messages: the control messages, decoded.
    """

    video: list[tuple[float, int, int, int, int]] = field(default_factory=list)
    sound: list[tuple[float, int, int, int]] = field(default_factory=list)
    messages: list[dict[str, Any]] = field(default_factory=list)


class Caller:
    """One call.

    Attributes:
        received: what came back so far.
        last_picture: the newest picture, I420.
    """

    def __init__(
        self,
        base_url: str,
        microphone: Microphone | None = None,
        camera: Camera | None = None,
        configuration: RTCConfiguration | None = None,
    ) -> None:
        self._base_url = base_url
        self._microphone = microphone
        self._camera = camera
        self._connection = RTCPeerConnection(configuration or RTCConfiguration(iceServers=[]))
        self._tasks: list[asyncio.Task[None]] = []
        self._changed = asyncio.Condition()
        self.channel: RTCDataChannel | None = None
        self.received = Received()
        self.last_picture: U8 | None = None
        self.location = ""
        self.called_at = 0.0

    @property
    def connection(self) -> RTCPeerConnection:
        return self._connection

    async def offer(self) -> str:
        """The SDP offer of this call."""
        connection = self._connection
        connection.on("track", self._on_track)
        if self._microphone is not None:
            connection.addTrack(self._microphone)
        else:
            connection.addTransceiver("audio", "recvonly")
        if self._camera is not None:
            connection.addTrack(self._camera)
        else:
            connection.addTransceiver("video", "recvonly")
        self.channel = connection.createDataChannel("lipwire")
        self.channel.on("message", self._on_message)
        await connection.setLocalDescription(await connection.createOffer())
        return connection.localDescription.sdp

    async def call(self, client: httpx.AsyncClient, **query: str) -> None:
        """Calls and applies the answer."""
        await self._negotiate(client, "/v1/sessions", query, {})

    async def resume(self, client: httpx.AsyncClient, lost: Caller) -> None:
        """Goes on with the call of another caller, who lost its connection."""
        ready = next(m for m in lost.received.messages if m["type"] == "session.ready")
        headers = {"resume-token": ready["resume_token"]}
        await self._negotiate(client, f"{lost.location}/resume", {}, headers)

    async def _negotiate(
        self, client: httpx.AsyncClient, path: str, query: dict[str, str], headers: dict[str, str]
    ) -> None:
        offer = await self.offer()
        self.called_at = time.monotonic()
        response = await client.post(
            f"{self._base_url}{path}",
            params=query,
            content=offer,
            headers={"content-type": "application/sdp", **headers},
        )
        response.raise_for_status()
        self.location = response.headers["location"]
        await self._connection.setRemoteDescription(
            RTCSessionDescription(sdp=response.text, type="answer")
        )

    def send(self, message: dict[str, Any]) -> None:
        """Sends a control message."""
        assert self.channel is not None
        self.channel.send(json.dumps(message))

    async def until(self, condition: Callable[[Received], bool], timeout_s: float = 10.0) -> None:
        """Waits until what came back fulfils a condition.

        Raises:
            TimeoutError: it did not in time.
        """
        async with asyncio.timeout(timeout_s), self._changed:
            await self._changed.wait_for(lambda: condition(self.received))

    async def vanish(self) -> None:
        """Stops sending anything without a word, as a killed peer does."""
        for transceiver in self._connection.getTransceivers():
            await transceiver.sender.transport.transport.stop()

    async def close(self) -> None:
        """Hangs up."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._connection.close()

    def _on_track(self, track: MediaStreamTrack) -> None:
        reader = self._read_sound if track.kind == "audio" else self._read_video
        self._tasks.append(asyncio.create_task(reader(track)))

    def _on_message(self, data: str) -> None:
        self.received.messages.append(json.loads(data))
        self._tasks.append(asyncio.create_task(self._notify()))

    async def _notify(self) -> None:
        async with self._changed:
            self._changed.notify_all()

    async def _read_sound(self, track: MediaStreamTrack) -> None:
        while True:
            frame = await _next_frame(track)
            if not isinstance(frame, AudioFrame):
                return
            arrival = time.monotonic()
            samples = np.abs(frame.to_ndarray().reshape(-1, 2)[:, 0].astype(np.int32))
            peak = int(samples.argmax())
            self.received.sound.append((arrival, frame.pts or 0, int(samples[peak]), peak))
            await self._notify()

    async def _read_video(self, track: MediaStreamTrack) -> None:
        while True:
            frame = await _next_frame(track)
            if not isinstance(frame, VideoFrame):
                return
            arrival = time.monotonic()
            i420 = np.asarray(frame.to_ndarray(format="yuv420p"), np.uint8)
            mark = read_mark(i420[: frame.height]) if self._camera is not None else -1
            self.received.video.append((arrival, frame.pts or 0, mark, frame.width, frame.height))
            self.last_picture = i420
            await self._notify()


async def _next_frame(track: MediaStreamTrack) -> object:
    try:
        return await track.recv()
    except MediaStreamError:
        return None
