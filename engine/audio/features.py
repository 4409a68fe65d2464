"""Speech into the log-mel windows of video frames, whatever pieces it comes in."""

from __future__ import annotations

import numpy as np

from engine.audio.log_mel import RANGE_LOG10, log_mel_frames
from engine.errors import NeedMoreAudio, StreamError
from engine.media import (
    F32,
    FRAME_SAMPLES,
    MEL_HOP_SAMPLES,
    MEL_WINDOW_SAMPLES,
    SAMPLE_RATE_HZ,
)
from engine.spec import AudioSpec
from engine.windows import due_sample, mel_window

_HALF = MEL_WINDOW_SAMPLES // 2
# Log-mel frames are made in blocks of one size on one grid: matrix products round differently
# in other shapes, and chopping must not show.
_BLOCK_FRAMES = 4
_BLOCK_HOP = _BLOCK_FRAMES * MEL_HOP_SAMPLES
_BLOCK_SPAN = _BLOCK_HOP - MEL_HOP_SAMPLES + MEL_WINDOW_SAMPLES
_RANGE = np.float32(RANGE_LOG10 / 4.0)  # as log-mel frames are scaled


class FeatureStream:
    """The log-mel of one segment of speech that begins at `start_frame`.

    What lies before the segment is silence. Memory is bounded by `trim`: samples of less than
    a block and the log-mel frames that coming video frames read.

    With a running floor every log-mel frame remembers the loudest value of the segment up to
    it, so that a window's floor is a function of the sound before its end alone. That value
    falls slowly: a bang into the microphone would else hide quiet speech for the whole call.

    Args:
        audio: the encoder's window.
        start_frame: the video frame that shows the segment's first sample.
    """

    def __init__(self, audio: AudioSpec, start_frame: int = 0) -> None:
        self.audio = audio
        self.start_frame = start_frame
        self._received = 0
        # A block ends with each window, and the first begins with or before the first window.
        first = mel_window(0, audio)
        self._first_mel = first.stop + -len(first) // _BLOCK_FRAMES * _BLOCK_FRAMES
        quiet = _HALF - self._first_mel * MEL_HOP_SAMPLES
        self._tail: F32 = np.zeros(0, np.float32)
        self._mel: F32 = np.zeros((audio.n_mels, 0), np.float32)
        self._floor = np.float32((audio.log_floor + 4.0) / 4.0)
        self._fall = np.float32(audio.floor_fall / 4.0 * MEL_HOP_SAMPLES / SAMPLE_RATE_HZ)
        # The loudest value up to each frame of `_mel`, less what it has fallen.
        self._peaks: F32 = np.zeros(0, np.float32)
        self._peak = self._floor
        self._take(np.zeros(quiet, np.float32))

    @property
    def end_sample(self) -> int:
        """Samples of the stream's timeline that have arrived."""
        return self.start_frame * FRAME_SAMPLES + self._received

    @property
    def buffered_frames(self) -> int:
        """Log-mel frames in memory."""
        return int(self._mel.shape[1])

    def push(self, samples: F32) -> None:
        """Takes the next samples, float32 [n]."""
        self._received += len(samples)
        self._take(samples)

    def windows(self, frames: range) -> F32:
        """The log-mel windows of video frames, float32 [len(frames), n_mels, mel_frames].

        The last 2 * tail frames of each are at its floor.

        Raises:
            NeedMoreAudio: their look-ahead has not arrived.
            StreamError: they were trimmed, or lie before the segment.
        """
        if not frames or frames.start < self.start_frame:
            raise StreamError(f"expected frames from {self.start_frame} on, got {frames}")
        missing = due_sample(frames, self.audio) - self.end_sample
        if missing > 0:
            raise NeedMoreAudio(f"frames up to {frames[-1]} need {missing} more samples")
        spans = [mel_window(frame - self.start_frame, self.audio) for frame in frames]
        if spans[0].start < self._first_mel:
            raise StreamError(f"the sound of frame {frames[0]} was trimmed")
        return np.stack([self._window(span) for span in spans])

    def _window(self, span: range) -> F32:
        first, last = span.start - self._first_mel, span.stop - self._first_mel
        window, floor = self._mel[:, first:last], self._floor
        if self.audio.floor == "running":
            floor = max(floor, self._peaks[last - 1] - _RANGE)
            window = np.maximum(window, floor)
        if self.audio.tail:
            silence = np.full((self.audio.n_mels, 2 * self.audio.tail), floor, np.float32)
            window = np.concatenate([window, silence], axis=1)
        return window

    def trim(self, frame: int) -> None:
        """Forgets what no frame from `frame` on reads."""
        first = mel_window(max(frame - self.start_frame, 0), self.audio).start
        drop = min(first - self._first_mel, self._mel.shape[1])
        if drop > 0:
            self._mel = self._mel[:, drop:].copy()
            self._peaks = self._peaks[drop:].copy()
            self._first_mel += drop

    def _take(self, samples: F32) -> None:
        pending = np.concatenate([self._tail, samples])
        count = max((len(pending) - _BLOCK_SPAN) // _BLOCK_HOP + 1, 0)
        blocks = [
            log_mel_frames(pending[start : start + _BLOCK_SPAN], self.audio)
            for start in range(0, count * _BLOCK_HOP, _BLOCK_HOP)
        ]
        self._tail = pending[count * _BLOCK_HOP :].copy()
        if blocks:
            frames = np.concatenate(blocks, axis=1)
            self._mel = np.concatenate([self._mel, frames], axis=1)
            self._peaks = np.concatenate([self._peaks, self._follow(frames.max(axis=0))])

    def _follow(self, loudest: F32) -> F32:
        """The peaks that go on from the newest one with frames as loud as these."""
        peaks = np.empty_like(loudest)
        for index, value in enumerate(loudest):
            self._peak = peaks[index] = max(value, self._peak - self._fall)
        return peaks
