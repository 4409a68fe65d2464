"""Between PyAV's frames and numpy, without a trip through RGB."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
from av import AudioFrame, AudioResampler, VideoFrame

from engine.media import F32, SAMPLE_RATE_HZ, Picture
from server.media.media_clock import TICK_HZ
from server.media.timeline import I16

VIDEO_CLOCK_HZ = 90_000
VIDEO_TIME_BASE = Fraction(1, VIDEO_CLOCK_HZ)
SOUND_TIME_BASE = Fraction(1, TICK_HZ)
# Of a picture that a client sends, before it is made smaller. What claims more is not decoded: a
# packet of 67 bytes can claim 268 million.
MAX_CAMERA_PIXELS = 1920 * 1920


def fit_size(width: int, height: int, largest: tuple[int, int]) -> tuple[int, int]:
    """Even size within `largest` that keeps the shape of a width x height picture."""
    scale = min(1.0, largest[0] / width, largest[1] / height)
    return (max(int(width * scale) // 2 * 2, 2), max(int(height * scale) // 2 * 2, 2))


def picture_from_frame(frame: VideoFrame, largest: tuple[int, int]) -> Picture:
    """The I420 picture of a decoded frame, made smaller where it exceeds `largest`."""
    width, height = fit_size(frame.width, frame.height, largest)
    if frame.format.name != "yuv420p" or (frame.width, frame.height) != (width, height):
        frame = frame.reformat(width=width, height=height, format="yuv420p")
    return Picture(np.ascontiguousarray(frame.to_ndarray(), np.uint8))


def frame_from_picture(picture: Picture, pts_ticks: int) -> VideoFrame:
    """A frame for the encoder at a media time given in ticks."""
    frame = VideoFrame.from_ndarray(picture.i420, format="yuv420p")
    frame.pts = pts_ticks * VIDEO_CLOCK_HZ // TICK_HZ
    frame.time_base = VIDEO_TIME_BASE
    return frame


def mono_from_frame(frame: AudioFrame) -> I16:
    """int16 [n]: the mean of the channels of a packed s16 frame."""
    samples = frame.to_ndarray().reshape(-1, len(frame.layout.channels))
    if samples.shape[1] == 1:
        return np.asarray(samples[:, 0], np.int16)
    return np.asarray(samples.astype(np.int32).sum(axis=1) // samples.shape[1], np.int16)


def frame_from_sound(samples: I16, pts_ticks: int) -> AudioFrame:
    """A 48 kHz mono frame for the encoder."""
    frame = AudioFrame.from_ndarray(samples.reshape(1, -1), format="s16", layout="mono")
    frame.sample_rate = TICK_HZ
    frame.pts = pts_ticks
    frame.time_base = SOUND_TIME_BASE
    return frame


class SpeechResampler:
    """48 kHz int16 sound to the engine's 16 kHz float32, in step with media time.

    The filter holds back about a millisecond, so a call returns slightly fewer
    or more samples than a third of what it was given; none is lost.
    """

    def __init__(self) -> None:
        self._resampler = _speech_resampler()
        self._pts = 0
        self._given = 0
        self._owed = 0

    def push(self, samples: I16) -> F32:
        """float32 [m] in -1..1."""
        if not len(samples):
            return np.zeros(0, np.float32)
        frame = frame_from_sound(samples, self._pts)
        self._pts += len(samples)
        parts = [part.to_ndarray().reshape(-1) for part in self._resampler.resample(frame)]
        owed, self._owed = np.zeros(self._owed, np.float32), 0
        speech = np.concatenate([owed, *parts]).astype(np.float32)
        self._given += len(speech)
        return speech

    def forget(self) -> None:
        """Puts silence in place of what the filter still holds: it is void."""
        self._owed = self._pts * SAMPLE_RATE_HZ // TICK_HZ - self._given
        self._resampler = _speech_resampler()


def _speech_resampler() -> AudioResampler:
    return AudioResampler(format="flt", layout="mono", rate=SAMPLE_RATE_HZ)
