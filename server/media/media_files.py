"""Media files in and out, at constant memory.

Video comes out as I420 at 25 frames a second, upright, whatever rate, rotation
and pixel format the file has. Sound comes out twice from one pass: 16 kHz mono
for the engine and 48 kHz for the result. The writer makes MP4 with H.264 and AAC.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Final

import av
import cv2
import numpy as np
from av.audio.stream import AudioStream
from av.video.stream import VideoStream

from engine.errors import MediaError, VideoFormatError
from engine.media import F32, FPS, SAMPLE_RATE_HZ, U8, Picture

SOUND_RATE_HZ: Final = 48_000
BACKWARD_FRAMES: Final = 48  # decoded pictures held while a video runs backwards
_ROTATIONS: Final = {
    90: cv2.ROTATE_90_COUNTERCLOCKWISE,
    180: cv2.ROTATE_180,
    270: cv2.ROTATE_90_CLOCKWISE,
}


@dataclass(frozen=True, slots=True)
class VideoInfo:
    """What a video shows once upright.

    Attributes:
        width, height: even; an odd last column or row is left out.
        frames: an estimate at 25 a second; None: the file does not say.
    """

    width: int
    height: int
    frames: int | None


class VideoFile:
    """A video as I420 pictures at 25 a second.

    Frame i is the picture that the file shows nearest to i / 25 seconds after its first one.

    Args:
        demuxer: read the file as this format and open nothing but it, whatever it says inside;
            None: let ffmpeg find out, for files of the user's own.

    Raises:
        MediaError: the file is absent, unreadable or without video.
    """

    def __init__(self, path: Path, demuxer: str | None = None) -> None:
        self.path = path
        self._demuxer = demuxer
        first = next(self._decode(0.0), None)
        if first is None:
            raise MediaError(f"{path}: expected a video with pictures, found none")
        self._origin_s, picture = first
        with self._opened() as container:
            stream = container.streams.video[0]
            frames = None
            if stream.duration is not None and stream.time_base is not None:
                frames = max(math.ceil(float(stream.duration * stream.time_base) * FPS - 1e-3), 1)
        self.info = VideoInfo(picture.width, picture.height, frames)

    def frames(self, first: int = 0, stop: int | None = None) -> Iterator[Picture]:
        """Pictures of frames first .. stop - 1, or to the end.

        Raises:
            MediaError: the file cannot be decoded.
        """
        index = first
        shown: Picture | None = None
        pts = self._origin_s
        for pts, picture in self._decode(first / FPS + self._origin_s):
            if (picture.width, picture.height) != (self.info.width, self.info.height):
                raise MediaError(
                    f"{self.path}: expected pictures of {self.info.width} x {self.info.height} "
                    f"throughout, got {picture.width} x {picture.height}"
                )
            # The one before is shown until the middle of the frame in which this one begins.
            while shown is not None and (index + 0.5) / FPS <= pts - self._origin_s:
                if stop is not None and index >= stop:
                    return
                yield shown
                index += 1
            shown = picture
        if shown is not None:
            last = math.ceil((pts - self._origin_s) * FPS - 0.5 - 1e-6)
            while index <= last and (stop is None or index < stop):
                yield shown
                index += 1

    def there_and_back(self) -> Iterator[Picture]:
        """Frames forwards, backwards, forwards and so on without end, end frames shown twice.

        Running backwards decodes the file piece by piece from its end: memory holds
        BACKWARD_FRAMES pictures whatever its length.
        """
        while True:
            count = 0
            for picture in self.frames():
                yield picture
                count += 1
            for stop in range(count, 0, -BACKWARD_FRAMES):
                piece = list(self.frames(max(stop - BACKWARD_FRAMES, 0), stop))
                yield from reversed(piece)

    def _opened(self) -> av.container.InputContainer:
        try:
            options = {} if self._demuxer is None else {"protocol_whitelist": "file"}
            return av.open(str(self.path), format=self._demuxer, options=options)
        except (av.FFmpegError, OSError) as error:
            raise MediaError(f"{self.path}: expected a video, {_reason(error)}") from error

    def _decode(self, from_s: float) -> Iterator[tuple[float, Picture]]:
        """(seconds, picture) from the last key frame before `from_s` on, in order of time."""
        with self._opened() as container:
            if not container.streams.video:
                raise MediaError(f"{self.path}: expected a video, found none")
            stream = container.streams.video[0]
            stream.thread_type = "AUTO"
            assert stream.time_base is not None
            try:
                if from_s > 0.5:  # key frames are no exact places: aim a little before
                    container.seek(int((from_s - 0.1) / stream.time_base), stream=stream)
                    frame = next(container.decode(stream), None)
                    if frame is None or frame.pts is None or frame.time > from_s:
                        container.seek(0, stream=stream)
                    else:
                        yield frame.time, self._picture(frame)
                for frame in container.decode(stream):
                    if frame.pts is not None:
                        yield frame.time, self._picture(frame)
            except av.FFmpegError as error:
                raise MediaError(f"{self.path}: expected a video, {_reason(error)}") from error

    def _picture(self, frame: av.VideoFrame) -> Picture:
        even = frame.width % 2 == 0 and frame.height % 2 == 0
        array = np.asarray(frame.to_ndarray(format="yuv420p") if even else _evened(frame), np.uint8)
        turn = frame.rotation % 360
        if turn in _ROTATIONS:
            array = _rotated(array, turn)
        try:
            return Picture(np.ascontiguousarray(array))
        except VideoFormatError as error:
            raise MediaError(f"{self.path}: {error}") from error


class SoundFile:
    """A file's sound, decoded once: for the engine and for the result.

    Raises:
        MediaError: the file is absent, unreadable or without sound.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with self._opened() as container:
            if not container.streams.audio:
                raise MediaError(f"{path}: expected a sound file, found no sound in it")
            stream = container.streams.audio[0]
            self.channels = min(stream.codec_context.channels, 2)
            seconds = None
            if stream.duration is not None and stream.time_base is not None:
                seconds = float(stream.duration * stream.time_base)
            elif container.duration is not None:
                seconds = container.duration / av.time_base
        self.seconds: float | None = seconds
        """Length by the file's own word, for progress only."""

    def pieces(self) -> Iterator[tuple[F32, F32]]:
        """(16 kHz mono float32 [n], 48 kHz float32 [channels, m]) piece by piece.

        Both have the exact length of the file, rounded up to a sample.

        Raises:
            MediaError: the file cannot be decoded.
        """
        speech = _Resampler(1, SAMPLE_RATE_HZ)
        sound = _Resampler(self.channels, SOUND_RATE_HZ)
        with self._opened() as container:
            try:
                for frame in container.decode(container.streams.audio[0]):
                    frame.pts = None
                    yield speech.push(frame)[0], sound.push(frame)
                yield speech.finish()[0], sound.finish()
            except av.FFmpegError as error:
                raise MediaError(f"{self.path}: expected sound, {_reason(error)}") from error

    def _opened(self) -> av.container.InputContainer:
        try:
            return av.open(str(self.path))
        except (av.FFmpegError, OSError) as error:
            raise MediaError(f"{self.path}: expected a sound file, {_reason(error)}") from error


class Mp4Writer:
    """Writes H.264 and AAC to `path`, which appears when all is written.

    Use as a context manager: leaving it by an exception leaves no file behind.
    """

    def __init__(
        self, path: Path, *, width: int, height: int, channels: int, crf: int = 18
    ) -> None:
        self._path = path
        self._part = path.with_name(path.name + ".part")
        self._frames = 0
        self._channels = channels
        try:
            self._part.touch()
            self._container = av.open(
                str(self._part), "w", format="mp4", options={"movflags": "+faststart"}
            )
        except (av.FFmpegError, OSError) as error:
            raise MediaError(f"{path}: cannot be written, {_reason(error)}") from error
        self._video: VideoStream = self._container.add_stream("libx264", rate=FPS)
        self._video.width, self._video.height = width, height
        self._video.pix_fmt = "yuv420p"
        self._video.time_base = Fraction(1, FPS)
        self._video.options = {"crf": str(crf), "preset": "fast"}
        layout = "mono" if channels == 1 else "stereo"
        self._sound: AudioStream = self._container.add_stream(
            "aac", rate=SOUND_RATE_HZ, layout=layout
        )
        self._sound.bit_rate = 96_000 * channels
        self._samples = 0

    def __enter__(self) -> Mp4Writer:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if error is None:
                self._finish()
            self._container.close()
        finally:
            if error is None:
                self._part.replace(self._path)
            else:
                self._part.unlink(missing_ok=True)

    def add_picture(self, picture: Picture) -> None:
        """Appends one frame."""
        frame = av.VideoFrame.from_ndarray(picture.i420, format="yuv420p")
        frame.pts, frame.time_base = self._frames, Fraction(1, FPS)
        self._frames += 1
        self._container.mux(self._video.encode(frame))

    def add_sound(self, samples: F32) -> None:
        """Appends 48 kHz sound, float32 [channels, n]."""
        if samples.shape[1] == 0:
            return
        layout = "mono" if self._channels == 1 else "stereo"
        frame = av.AudioFrame.from_ndarray(
            np.ascontiguousarray(samples), format="fltp", layout=layout
        )
        frame.sample_rate = SOUND_RATE_HZ
        frame.pts, frame.time_base = self._samples, Fraction(1, SOUND_RATE_HZ)
        self._samples += samples.shape[1]
        self._container.mux(self._sound.encode(frame))

    def _finish(self) -> None:
        """Pads the sound to the end of the last frame and writes what the encoders hold."""
        missing = self._frames * SOUND_RATE_HZ // FPS - self._samples
        if missing > 0:
            self.add_sound(np.zeros((self._channels, missing), np.float32))
        self._container.mux(self._video.encode(None))
        self._container.mux(self._sound.encode(None))


class _Resampler:
    """Sound at another rate whose length is exactly the input's."""

    def __init__(self, channels: int, rate: int) -> None:
        layout = "mono" if channels == 1 else "stereo"
        self._resampler = av.AudioResampler(format="fltp", layout=layout, rate=rate)
        self._channels = channels
        self._rate = rate
        self._seconds = Fraction(0)
        self._given = 0

    def push(self, frame: av.AudioFrame) -> F32:
        self._seconds += Fraction(frame.samples, frame.sample_rate)
        return self._take(frame)

    def finish(self) -> F32:
        """What the filter still holds, cut or padded to the exact length."""
        missing = max(math.ceil(self._seconds * self._rate) - self._given, 0)
        tail = self._take(None)[:, :missing]
        silence = np.zeros((self._channels, missing - tail.shape[1]), np.float32)
        return np.concatenate([tail, silence], axis=1)

    def _take(self, frame: av.AudioFrame | None) -> F32:
        parts = [
            np.asarray(part.to_ndarray(), np.float32) for part in self._resampler.resample(frame)
        ]
        taken = np.concatenate([np.zeros((self._channels, 0), np.float32), *parts], axis=1)
        self._given += taken.shape[1]
        return taken


def _evened(frame: av.VideoFrame) -> U8:
    rgb = frame.to_ndarray(format="rgb24")
    even = rgb[: frame.height // 2 * 2, : frame.width // 2 * 2]
    return np.asarray(cv2.cvtColor(np.ascontiguousarray(even), cv2.COLOR_RGB2YUV_I420), np.uint8)


def _rotated(i420: U8, degrees: int) -> U8:
    height, width = i420.shape[0] * 2 // 3, i420.shape[1]
    turn = _ROTATIONS[degrees]
    chroma = i420[height:].reshape(2, height // 2, width // 2)
    planes = [i420[:height], chroma[0], chroma[1]]
    turned = [np.asarray(cv2.rotate(plane, turn)) for plane in planes]
    return np.concatenate([plane.ravel() for plane in turned]).reshape(-1, turned[0].shape[1])


def _reason(error: BaseException) -> str:
    return getattr(error, "strerror", None) or str(error)
