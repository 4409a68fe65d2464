"""The tracks that the server sends: they hold no clock, playout decides when a frame leaves.

aiortc's own `VideoStreamTrack` paces at 30 fps of wall clock and never
catches up; these only hand over what was released, the newest first to stay.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Generic, TypeVar

from aiortc import MediaStreamTrack
from aiortc.mediastreams import MediaStreamError
from av import AudioFrame, VideoFrame

from server.media.av_frames import VIDEO_CLOCK_HZ
from server.media.media_clock import TICK_HZ, now_ticks

FrameT = TypeVar("FrameT", AudioFrame, VideoFrame)

VIDEO_QUEUE_FRAMES = 3  # 120 ms
SOUND_QUEUE_BLOCKS = 100  # 2 s: what a gateway that stood still owes, or a slow reader may leave


class PlayoutTrack(MediaStreamTrack, Generic[FrameT]):
    """A track that is fed by playout.

    Attributes:
        dropped: frames that gave way because the encoder did not keep up.
        on_sent: told of a frame when it has been encoded and sent: its media time, and when the
            sender took it, in ticks.
        clock_hz: RTP clock of the track.
    """

    kind = "unknown"
    clock_hz = TICK_HZ

    def __init__(self, bound: int, epoch_ntp: int) -> None:
        """
        Args:
            bound: frames that may wait for the encoder.
            epoch_ntp: NTP time (32.32 fixed point) of media time 0, for sender reports.
        """
        super().__init__()
        self.dropped = 0
        self.on_sent: Callable[[int, int], None] | None = None
        self._taken: tuple[int, int] | None = None
        self._queue: asyncio.Queue[FrameT | None] = asyncio.Queue()
        self._bound = bound
        self.epoch_ntp = epoch_ntp

    @property
    def waiting(self) -> int:
        """Frames that wait for the sender."""
        return self._queue.qsize()

    def release(self, frame: FrameT) -> None:
        """Hands a frame to the sender; the oldest waiting one goes if there are too many.

        A track that has ended has no sender: what it is given is gone.
        """
        if self.readyState != "live":
            return
        if self._queue.qsize() >= self._bound:
            self._queue.get_nowait()
            self.dropped += 1
        self._queue.put_nowait(frame)

    def drop_waiting(self) -> list[FrameT]:
        """Drops what waits for the encoder, because it is void, and gives it back."""
        dropped: list[FrameT] = []
        while not self._queue.empty():
            frame = self._queue.get_nowait()
            if frame is None:  # the end stays
                self._queue.put_nowait(None)
                break
            dropped.append(frame)
        return dropped

    async def recv(self) -> FrameT:
        """The next released frame. Who asks for it has sent the one before.

        Raises:
            MediaStreamError: the track has ended.
        """
        if self._taken is not None and self.on_sent is not None:
            self.on_sent(*self._taken)
        self._taken = None
        frame = await self._queue.get() if self.readyState == "live" else None
        if frame is None:
            raise MediaStreamError
        self._taken = ((frame.pts or 0) * TICK_HZ // self.clock_hz, now_ticks())
        return frame

    def stop(self) -> None:
        super().stop()
        self._queue.put_nowait(None)

    def media_ntp(self, timestamp: int) -> int:
        """NTP time of an RTP timestamp (before its random offset): media time, not sending time."""
        return self.epoch_ntp + (timestamp << 32) // self.clock_hz


class VideoOut(PlayoutTrack[VideoFrame]):
    """Pictures at media time."""

    kind = "video"
    clock_hz = VIDEO_CLOCK_HZ

    def __init__(self, epoch_ntp: int) -> None:
        super().__init__(VIDEO_QUEUE_FRAMES, epoch_ntp)


class SoundOut(PlayoutTrack[AudioFrame]):
    """Sound at media time."""

    kind = "audio"

    def __init__(self, epoch_ntp: int) -> None:
        super().__init__(SOUND_QUEUE_BLOCKS, epoch_ntp)
