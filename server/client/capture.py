"""What a WebRTC call sends: a microphone that says samples, and cameras from any source."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterable, AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
from aiortc import MediaStreamTrack
from aiortc.mediastreams import MediaStreamError
from av import AudioFrame, VideoFrame
from numpy.typing import NDArray

from engine.errors import AudioFormatError, VideoFormatError
from engine.media import FPS
from server.media.av_frames import VIDEO_CLOCK_HZ, VIDEO_TIME_BASE, frame_from_sound
from server.media.media_clock import SOUND_TICKS, TICK_HZ

I16 = NDArray[np.int16]
U8 = NDArray[np.uint8]
CameraSource = MediaStreamTrack | AsyncIterable[U8 | VideoFrame] | Path


@dataclass(slots=True)
class _Utterance:
    """Samples on their way out.

    Attributes:
        left: who waits for the last of them, and is told False if it was dropped.
    """

    samples: I16
    left: asyncio.Future[bool] | None = None
    taken: int = 0

    def tell(self, left: bool) -> None:
        if self.left is not None and not self.left.done():  # who waited may have been cancelled
            self.left.set_result(left)


class Microphone(MediaStreamTrack):
    """Says samples at the speed of sound, 20 ms a packet, with silence between them.

    Attributes:
        began: `time.monotonic` of the first sample's capture; None before that.
    """

    kind = "audio"

    def __init__(self, samples: I16 | None = None) -> None:
        """
        Args:
            samples: int16 [n] at 48 kHz, said from the first packet on.
        """
        super().__init__()
        self.began: float | None = None
        self._utterances = deque([] if samples is None else [_Utterance(samples)])
        self._next = 0
        self._held = False

    async def say(self, samples: I16) -> bool:
        """Says samples after those that wait already; returns when the last of them has left.

        Args:
            samples: int16 [n] at 48 kHz.

        Returns:
            False if `drop` came first.
        """
        if samples.dtype != np.int16 or samples.ndim != 1:
            raise AudioFormatError(f"expected int16 [n], got {samples.dtype} {samples.shape}")
        if not len(samples):
            return True
        left: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._utterances.append(_Utterance(samples, left))
        return await left

    def drop(self) -> None:
        """Drops what has not left yet."""
        for utterance in self._utterances:
            utterance.tell(False)
        self._utterances.clear()

    def hold(self) -> None:
        """Stands still until the next packet is asked for, by another connection for one."""
        self._held = True

    async def recv(self) -> AudioFrame:
        """The next 20 ms, when their last sample has been captured.

        Raises:
            MediaStreamError: the track has ended.
        """
        if self.readyState != "live":
            raise MediaStreamError
        if self.began is None or self._held:
            self.began = time.monotonic() - self._next / TICK_HZ
            self._held = False
        due = self.began + (self._next + SOUND_TICKS) / TICK_HZ
        await asyncio.sleep(max(due - time.monotonic(), 0))
        frame = frame_from_sound(self._block(), self._next)
        self._next += SOUND_TICKS
        return frame

    def stop(self) -> None:
        super().stop()
        self.drop()

    def _block(self) -> I16:
        block, filled = np.zeros(SOUND_TICKS, np.int16), 0
        while self._utterances and filled < SOUND_TICKS:
            utterance = self._utterances[0]
            part = utterance.samples[utterance.taken :][: SOUND_TICKS - filled]
            block[filled : filled + len(part)] = part
            filled += len(part)
            utterance.taken += len(part)
            if utterance.taken == len(utterance.samples):
                self._utterances.popleft()
                utterance.tell(True)
        return block


class PicturesTrack(MediaStreamTrack):
    """A camera that shows the pictures of an asynchronous source as they come."""

    kind = "video"

    def __init__(self, pictures: AsyncIterable[U8 | VideoFrame]) -> None:
        """
        Args:
            pictures: uint8 [h, w, 3] in BGR, or frames, about 25 a second.
        """
        super().__init__()
        self._pictures = aiter(pictures)
        self._began: float | None = None

    async def recv(self) -> VideoFrame:
        """The source's next picture, dated by when it came.

        Raises:
            MediaStreamError: the source or the track has ended.
        """
        if self.readyState != "live":
            raise MediaStreamError
        try:
            picture = await anext(self._pictures)
        except StopAsyncIteration:
            self.stop()
            raise MediaStreamError from None
        now = time.monotonic()
        if self._began is None:
            self._began = now
        frame = picture if isinstance(picture, VideoFrame) else _frame(picture)
        frame.pts = int((now - self._began) * VIDEO_CLOCK_HZ)
        frame.time_base = VIDEO_TIME_BASE
        return frame


def open_camera(source: CameraSource) -> MediaStreamTrack:
    """A track of a camera's pictures.

    Args:
        source: a track, pictures as they come, or a video file, which is shown again and again.

    Raises:
        VideoFormatError: the file has no pictures.
    """
    if isinstance(source, MediaStreamTrack):
        return source
    if not isinstance(source, Path):
        return PicturesTrack(source)
    try:
        with av.open(str(source)) as container:
            found = len(container.streams.video)
    except av.FFmpegError as error:
        raise VideoFormatError(f"expected a video file, {error}") from error
    if not found:
        raise VideoFormatError(f"expected pictures in {source}, found none")
    return PicturesTrack(_film(source))


async def _film(path: Path) -> AsyncIterator[VideoFrame]:
    """The pictures of a file at their own times, from the beginning again when it ends."""
    due = time.monotonic()
    while True:
        with av.open(str(path)) as container:
            frames = container.decode(video=0)
            while (frame := await asyncio.to_thread(next, frames, None)) is not None:
                yield frame
                lasts = frame.duration and frame.time_base and frame.duration * frame.time_base
                due += float(lasts or 1 / FPS)
                await asyncio.sleep(max(due - time.monotonic(), 0))


def _frame(picture: U8) -> VideoFrame:
    if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3:
        raise VideoFormatError(f"expected uint8 [h, w, 3], got {picture.dtype} {picture.shape}")
    return VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="bgr24")
