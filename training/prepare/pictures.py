"""A video's pictures at 25 a second, by their time stamps.

Frame i is the picture that begins nearest to i / 25 s after the first one, whatever rate the
file has or had on its way. Nothing is interpolated: a mouth between two mouths is no mouth.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Final

import av
import cv2
import numpy as np
from av.video.stream import VideoStream

from engine.errors import MediaError
from engine.media import FPS, U8, Picture
from training.prepare.check import reason_of

STALE_S: Final = 0.06  # from a frame's time to the picture shown: beyond, the video stood still

_TURNS: Final = {
    90: cv2.ROTATE_90_COUNTERCLOCKWISE,
    180: cv2.ROTATE_180,
    270: cv2.ROTATE_90_CLOCKWISE,
}


@dataclass(frozen=True, slots=True)
class GridFrame:
    """A frame at 25 a second; its picture is converted when it is asked for.

    Attributes:
        index: its time is index / 25 s after the origin.
        off_s: from that time to the one at which its picture begins.
    """

    index: int
    off_s: float
    decoded: av.VideoFrame

    @property
    def stale(self) -> bool:
        """Whether the video shows nothing new here."""
        return self.off_s > STALE_S

    def picture(self) -> Picture:
        """Upright; an odd last column or row is left out."""
        if self.decoded.width % 2 == 0 and self.decoded.height % 2 == 0:
            i420 = np.asarray(self.decoded.to_ndarray(format="yuv420p"), np.uint8)
        else:
            i420 = _evened(np.asarray(self.decoded.to_ndarray(format="rgb24"), np.uint8))
        turn = int(self.decoded.rotation) % 360
        return Picture(np.ascontiguousarray(_turned(i420, turn) if turn in _TURNS else i420))

    def small_bgr(self, longer: int) -> U8:
        """uint8 [h, w, 3], its longer side at most `longer` pixels, as the file stores it."""
        frame = self.decoded
        scale = min(longer / max(frame.width, frame.height), 1.0)
        width, height = (max(round(side * scale), 1) for side in (frame.width, frame.height))
        return np.asarray(
            frame.reformat(width=width, height=height, format="bgr24").to_ndarray(), np.uint8
        )


def grid_frames(path: Path, origin: Fraction, frames: int) -> Iterator[GridFrame]:
    """The first `frames` frames of a video.

    Args:
        origin: seconds of frame 0 by the file's clock.

    Raises:
        MediaError: a picture cannot be decoded, or has another size than the first.
    """
    index = 0
    shown: av.VideoFrame | None = None
    shown_at = Fraction(0)
    for at, frame in _decoded(path, origin):
        if shown is not None:
            while index < frames and Fraction(index, FPS) < (shown_at + at) / 2:
                yield GridFrame(index, abs(float(Fraction(index, FPS) - shown_at)), shown)
                index += 1
        if index == frames:
            return
        shown, shown_at = frame, at
    if shown is not None and index < frames:
        # The last picture lasts for a frame.
        while index < frames and Fraction(index, FPS) < shown_at + Fraction(1, FPS):
            yield GridFrame(index, abs(float(Fraction(index, FPS) - shown_at)), shown)
            index += 1


def _decoded(path: Path, origin: Fraction) -> Iterator[tuple[Fraction, av.VideoFrame]]:
    """(seconds after the origin, frame), in order of time."""
    size: tuple[int, int] | None = None
    last: Fraction | None = None
    try:
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            stream.codec_context.thread_count = 1  # processes are the parallel part
            # Else broken pictures come out patched up with grey and older pictures.
            stream.codec_context.options = {"err_detect": "explode"}
            for frame in _frames_of(container, stream):
                if frame.pts is None or frame.time_base is None:
                    continue
                at = frame.pts * frame.time_base - origin
                if last is not None and at <= last:
                    continue
                if size is not None and (frame.width, frame.height) != size:
                    raise MediaError(
                        f"changes size: {size[0]} x {size[1]} to {frame.width} x {frame.height} "
                        f"at {float(at):.1f} s"
                    )
                size, last = (frame.width, frame.height), at
                yield at, frame
    except av.FFmpegError as error:
        where = 0.0 if last is None else float(last)
        raise MediaError(f"unreadable: {reason_of(error)} after {where:.1f} s") from error


def _frames_of(
    container: av.container.InputContainer, stream: VideoStream
) -> Iterator[av.VideoFrame]:
    """All pictures; a file that was cut out of a longer one may begin with errors."""
    begun = False
    for packet in container.demux(stream):
        try:
            frames = packet.decode()
        except av.FFmpegError:
            if begun:
                raise
            continue
        for frame in frames:
            begun = True
            yield frame


def _evened(rgb: U8) -> U8:
    height, width = (side // 2 * 2 for side in rgb.shape[:2])
    even = np.ascontiguousarray(rgb[:height, :width])
    return np.asarray(cv2.cvtColor(even, cv2.COLOR_RGB2YUV_I420), np.uint8)


def _turned(i420: U8, degrees: int) -> U8:
    height, width = i420.shape[0] * 2 // 3, i420.shape[1]
    chroma = i420[height:].reshape(2, height // 2, width // 2)
    planes = [
        np.asarray(cv2.rotate(np.ascontiguousarray(plane), _TURNS[degrees]))
        for plane in (i420[:height], chroma[0], chroma[1])
    ]
    flat = np.concatenate([plane.ravel() for plane in planes])
    return np.asarray(flat.reshape(-1, planes[0].shape[1]), np.uint8)
