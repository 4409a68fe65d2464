"""Whether memory stays where it is over minutes of stream: a part of `lipwire bench engine`.

The stream is the one that serves calls, over a prepared avatar, fed as fast as it takes sound.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
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
class Growth:
    """Readings of one memory over a stream.

    Attributes:
        memory: which: the process's, the device's.
        start_mb: after the warm-up: the highest of the tenth that follows it.
        end_mb: the highest of the last tenth.
        growth_percent: of the end over the start.
        readings: (minute of the stream, MB).
    """

    memory: str
    start_mb: float
    end_mb: float
    growth_percent: float
    readings: list[tuple[float, float]]

    @classmethod
    def of(cls, memory: str, readings: list[tuple[float, float]]) -> Growth:
        """What the readings show."""
        tenth = max(1, len(readings) // 10)
        first = round(WARMUP_SHARE * len(readings))
        start = max(mb for _, mb in readings[first : first + tenth])
        end = max(mb for _, mb in readings[-tenth:])
        return cls(memory, start, end, round(100.0 * (end / start - 1.0), 3), readings)


@dataclass(frozen=True, slots=True)
class StreamMemory:
    """Memory over a stream.

    Attributes:
        minutes: of stream, each session.
        seconds: that they took.
        hops: that went through the network, of all sessions.
    """

    backend: str
    sessions: int
    hop: int
    minutes: float
    seconds: float
    hops: int
    memories: list[Growth]


def stream_memory(
    backend: Backend, minutes: float, sessions: int, readers: Mapping[str, Callable[[], float]]
) -> StreamMemory:
    """Streams so many minutes in each of so many sessions and reads the memory in use.

    Args:
        readers: name of a memory -> its MB in use now.
    """
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
    readings: dict[str, list[tuple[float, float]]] = {name: [] for name in readers}
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
            for name, read_mb in readers.items():
                readings[name].append((round(minute, 3), round(read_mb(), 2)))
    return StreamMemory(
        backend=backend.name,
        sessions=sessions,
        hop=hop,
        minutes=round(pushes * hop / FPS / 60, 2),
        seconds=round(time.perf_counter() - began, 1),
        hops=sum(stream.state.hops for stream in streams),
        memories=[Growth.of(name, found) for name, found in readings.items()],
    )


def _run_all(scheduler: Scheduler) -> list[StreamOutput]:
    outputs: list[StreamOutput] = []
    while made := scheduler.run_due():
        outputs += made
    return outputs
