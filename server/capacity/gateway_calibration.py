"""What a call costs its gateway: estimated from its encoder at start, then counted from calls."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import av
import numpy as np

from engine.media import FPS, Picture
from server.media.av_frames import frame_from_picture
from server.media.media_clock import FRAME_TICKS
from server.webrtc.aiortc_encoders import TunedVp8Encoder

PICTURES = 12  # 0.5 s of a call
PLAIN_SIZE = 512
# A call's whole processor time in its gateway (Opus, SRTP, packets both ways, timers) over that of
# encoding its pictures. `lipwire bench load` gives the first, `measure_call_ms` the second.
CALL_OVER_ENCODER = 6.0
SETTLED_CALL_S = 30.0  # seconds of calls that must have been counted before they are believed
MEMORY = 0.9  # weight of what is known when a new stretch of calls has been counted


def measure_call_ms(clip: Path | None) -> float:
    """Processor time in ms that a call of 25 pictures a second costs in a second, about.

    Args:
        clip: an avatar's, whose pictures are encoded; None: a picture that moves.
    """
    encoder = TunedVp8Encoder()
    spent_ms = []
    for number, picture in enumerate(itertools.islice(_pictures(clip), PICTURES)):
        frame = frame_from_picture(picture, number * FRAME_TICKS)
        began = time.process_time()
        encoder.encode(frame)
        spent_ms.append(1000 * (time.process_time() - began))
    return float(np.median(spent_ms)) * FPS * CALL_OVER_ENCODER


def _pictures(clip: Path | None) -> Iterator[Picture]:
    if clip is None:
        ramp = np.arange(PLAIN_SIZE, dtype=np.uint8)
        for number in range(PICTURES):
            rows = np.arange(PLAIN_SIZE * 3 // 2, dtype=np.uint8)[:, None]
            yield Picture(rows + ramp + np.uint8(4 * number))
        return
    with av.open(str(clip)) as container:
        for frame in container.decode(video=0):
            yield Picture(np.asarray(frame.to_ndarray(format="yuv420p"), np.uint8))


class CallCost:
    """Counts what the calls of this process cost it.

    Attributes:
        share: of one core that the process used lately.
    """

    def __init__(
        self,
        clock: Callable[[], float] = time.monotonic,
        cpu_clock: Callable[[], float] = time.process_time,
    ) -> None:
        self._clock, self._cpu_clock = clock, cpu_clock
        self._at, self._cpu_at = clock(), cpu_clock()
        self._call_s = self._cpu_s = 0.0
        self._known: float | None = None
        self.share = 0.0

    def note(self, sessions: int) -> None:
        """Counts the time since the last call, in which that many sessions ran."""
        now, cpu = self._clock(), self._cpu_clock()
        elapsed, spent = now - self._at, cpu - self._cpu_at
        self._at, self._cpu_at = now, cpu
        if elapsed <= 0:
            return
        self.share = spent / elapsed
        if not sessions:
            return
        self._call_s += sessions * elapsed
        self._cpu_s += spent
        if self._call_s >= SETTLED_CALL_S:
            new = 1000 * self._cpu_s / self._call_s
            known = new if self._known is None else self._known
            self._known = MEMORY * known + (1 - MEMORY) * new
            self._call_s = self._cpu_s = 0.0

    @property
    def call_ms(self) -> float | None:
        """Processor time in ms of one call in a second; None until enough was counted."""
        return self._known
