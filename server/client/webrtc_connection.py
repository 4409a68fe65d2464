"""One WebRTC connection of a call, seen from the client: what it sends, and what comes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from aiortc import (
    MediaStreamTrack,
    RTCConfiguration,
    RTCPeerConnection,
    RTCSessionDescription,
)
from aiortc.mediastreams import MediaStreamError
from av import AudioFrame, Packet, VideoFrame
from av.frame import Frame

from server.client.media_dates import MediaDates
from server.media.av_frames import VIDEO_CLOCK_HZ
from server.media.media_clock import TICK_HZ
from server.protocol import (
    CHANNEL,
    ClientMessage,
    ProtocolError,
    ReadyMessage,
    ServerMessage,
    decode_server,
    encode_message,
)


@dataclass(frozen=True, slots=True)
class ReceivedSound:
    """20 ms of what the avatar says, 48 kHz, interleaved stereo with both channels alike.

    Attributes:
        arrived: `time.monotonic` when it could be played.
        timestamp: samples since the connection's first.
        pts_us: media time of its first sample, None until it is known, for about a second.
    """

    arrived: float
    timestamp: int
    pts_us: int | None
    frame: AudioFrame


@dataclass(frozen=True, slots=True)
class ReceivedPicture:
    """A decoded picture: `frame.to_ndarray(format="bgr24")` for one.

    Attributes:
        arrived: `time.monotonic` when it could be shown.
        timestamp: ticks of 90 kHz since the connection's first.
        pts_us: media time; the sound of the same time belongs to it.
    """

    arrived: float
    timestamp: int
    pts_us: int | None
    frame: VideoFrame


Received = ReceivedSound | ReceivedPicture | ServerMessage


class Lent(MediaStreamTrack):
    """A track that outlives the connection that sends it: aiortc stops what a sender sends."""

    def __init__(self, track: MediaStreamTrack) -> None:
        super().__init__()
        self.kind = track.kind
        self._track = track

    async def recv(self) -> Frame | Packet[Any]:
        if self.readyState != "live":
            raise MediaStreamError
        return await self._track.recv()


class Connection:
    """The client's end.

    Args:
        microphone, camera: what it sends; None: it only listens, or shows no camera.
        on_received: called with everything that comes.
        on_over: called when the connection is closed, by the server or because it failed.

    Attributes:
        heard_at: `time.monotonic` when something came last.
    """

    def __init__(
        self,
        microphone: MediaStreamTrack | None,
        camera: MediaStreamTrack | None,
        configuration: RTCConfiguration,
        on_received: Callable[[Received], None],
        on_over: Callable[[], None],
    ) -> None:
        self._tracks = [track for track in (microphone, camera) if track is not None]
        self._on_received = on_received
        self._on_over = on_over
        self._tasks: list[asyncio.Task[None]] = []
        self._closed = False
        self._epoch_us: int | None = None
        self.heard_at = time.monotonic()
        self.rtc = RTCPeerConnection(configuration)
        self.rtc.on("track", self._on_track)
        self.rtc.on("connectionstatechange", self._on_state)
        for kind, track in (("audio", microphone), ("video", camera)):
            if track is None:
                self.rtc.addTransceiver(kind, "recvonly")
            else:
                self.rtc.addTrack(Lent(track))
        self._channel = self.rtc.createDataChannel(CHANNEL)
        self._channel.on("message", self._on_message)

    @property
    def over(self) -> bool:
        """Whether it is closed, or failed."""
        return self.rtc.connectionState in ("failed", "closed")

    async def offer(self) -> str:
        """The SDP offer, with all candidates in it."""
        await self.rtc.setLocalDescription(await self.rtc.createOffer())
        return str(self.rtc.localDescription.sdp)

    async def accept(self, answer: str) -> None:
        """Applies the server's answer."""
        await self.rtc.setRemoteDescription(RTCSessionDescription(sdp=answer, type="answer"))

    def send(self, message: ClientMessage) -> None:
        """Sends a control message; the channel is open once `session.ready` has come."""
        self._channel.send(encode_message(message))

    def mute(self) -> None:
        """Sends no more sound and pictures, so that another connection can take the tracks."""
        for sender in self.rtc.getSenders():
            sender.replaceTrack(None)

    def unmute(self) -> None:
        """Sends the tracks again."""
        for track in self._tracks:
            sender = next(sender for sender in self.rtc.getSenders() if sender.kind == track.kind)
            sender.replaceTrack(Lent(track))

    async def close(self) -> None:
        """Hangs up and waits until nothing is left."""
        if self._closed:
            return
        self._closed = True
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.rtc.close()

    def _on_state(self) -> None:
        if self.over and not self._closed:
            self._on_over()

    def _on_message(self, data: str | bytes) -> None:
        try:
            message = decode_server(data)
        except ProtocolError:
            return  # of a later version
        if isinstance(message, ReadyMessage):
            self._epoch_us = message.epoch_ntp_us
        self._take(message)

    def _on_track(self, track: MediaStreamTrack) -> None:
        receiver = next(
            transceiver.receiver
            for transceiver in self.rtc.getTransceivers()
            if transceiver.receiver.track is track
        )
        reading = self._read(track, MediaDates(receiver))
        self._tasks.append(asyncio.create_task(reading, name=f"call-{track.kind}"))

    async def _read(self, track: MediaStreamTrack, dates: MediaDates) -> None:
        while True:
            try:
                frame = await track.recv()
            except MediaStreamError:
                return
            timestamp = frame.pts or 0
            if isinstance(frame, AudioFrame):
                pts_us = self._media_us(dates, timestamp, TICK_HZ)
                self._take(ReceivedSound(time.monotonic(), timestamp, pts_us, frame))
            elif isinstance(frame, VideoFrame):
                pts_us = self._media_us(dates, timestamp, VIDEO_CLOCK_HZ)
                self._take(ReceivedPicture(time.monotonic(), timestamp, pts_us, frame))

    def _media_us(self, dates: MediaDates, timestamp: int, clock_hz: int) -> int | None:
        ntp_us = dates.date_us(timestamp, clock_hz)
        return None if ntp_us is None or self._epoch_us is None else ntp_us - self._epoch_us

    def _take(self, received: Received) -> None:
        self.heard_at = time.monotonic()
        self._on_received(received)
