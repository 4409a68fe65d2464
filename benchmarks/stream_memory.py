"""Whether memory stays where it is over minutes of stream: a part of `lipwire bench engine`.

The stream is the one that serves calls, over a prepared avatar, fed as fast as it takes sound.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from benchmarks.synthetic import synthetic_avatar, synthetic_speech
from engine.avatar import AvatarSource
from engine.backends.base import Backend
from engine.media import FPS, FRAME_SAMPLES
from engine.scheduler import Scheduler, StreamOutput
from engine.stream import Stream, StreamOptions

WARMUP_SHARE = 0.1  # of the stream, before growth is counted
SAMPLES = 60  # readings of memory over the stream
SPEECH_FRAMES = 250  # repeated


@dataclass(frozen=True, slots=True)
class StreamMemory:
    """Memory over a stream.

    Attributes:
        minutes: of stream, each session.
        seconds: that they took.
        start_mb: after the warm-up.
        growth_percent: of the highest reading of the last tenth over the highest of the tenth
            after the warm-up.
        readings: (minute of the stream, MB).
    """

    backend: str
    sessions: int
    hop: int
    minutes: float
    seconds: float
    start_mb: float
    end_mb: float
    growth_percent: float
    readings: list[tuple[float, float]]


def stream_memory(
    backend: Backend, minutes: float, sessions: int, read_mb: Callable[[], float]
) -> StreamMemory:
    """Streams so many minutes in each of so many sessions and reads the memory in use."""
    hop = backend.spec.hop_frames
    avatar = synthetic_avatar(backend)
    scheduler = Scheduler(backend, max_batch=max(sessions, 1))
    options = StreamOptions(hop_frames=hop, realtime=False)
    streams = [Stream(backend, AvatarSource(avatar), options) for _ in range(sessions)]
    for stream in streams:
        scheduler.add(stream)
    speech = synthetic_speech(SPEECH_FRAMES)
    chunk = hop * FRAME_SAMPLES
    pushes = max(SAMPLES, round(minutes * 60 * FPS / hop))
    every = pushes // SAMPLES
    readings: list[tuple[float, float]] = []
    began = time.perf_counter()
    for push in range(pushes):
        start = (push * chunk) % (len(speech) - chunk)
        for stream in streams:
            stream.push_audio(speech[start : start + chunk])
        for output in _run_all(scheduler):
            if output.error is not None:
                raise output.error
        if push % every == every - 1:
            minute = (push + 1) * hop / FPS / 60
            readings.append((round(minute, 3), round(read_mb(), 2)))
    tenth = max(1, len(readings) // 10)
    first = round(WARMUP_SHARE * len(readings))
    start_mb = max(mb for _, mb in readings[first : first + tenth])
    end_mb = max(mb for _, mb in readings[-tenth:])
    return StreamMemory(
        backend=backend.name,
        sessions=sessions,
        hop=hop,
        minutes=round(pushes * hop / FPS / 60, 2),
        seconds=round(time.perf_counter() - began, 1),
        start_mb=start_mb,
        end_mb=end_mb,
        growth_percent=round(100.0 * (end_mb / start_mb - 1.0), 3),
        readings=readings,
    )


def _run_all(scheduler: Scheduler) -> list[StreamOutput]:
    outputs: list[StreamOutput] = []
    while made := scheduler.run_due():
        outputs += made
    return outputs
