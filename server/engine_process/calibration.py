"""What a hop costs in this engine: real streams over an avatar, a whole batch of them at once."""

from __future__ import annotations

import statistics
import time

import numpy as np

from engine.avatar import AvatarSource, PreparedAvatar
from engine.backends.base import Backend
from engine.media import F32, FRAME_SAMPLES, SAMPLE_RATE_HZ
from engine.scheduler import Scheduler
from engine.stream import Stream, StreamOptions
from server.capacity.machine import HopCost

HOPS = 9  # of each batch size, after WARM_HOPS; the median counts
WARM_HOPS = 2
BUDGET_S = 1.0  # for all batch sizes together; what is too slow for it is not measured further


def measure_hops(backend: Backend, avatar: PreparedAvatar, hop_frames: int) -> list[HopCost]:
    """The cost of a step of the engine at batches of 1, 2, 4 ... hops.

    The median of several counts: on a machine with other work the fastest promises more than
    calls will get.
    """
    costs: list[HopCost] = []
    began = time.monotonic()
    batch = 1
    while batch <= backend.max_batch and (not costs or time.monotonic() - began < BUDGET_S):
        costs.append(_measure_batch(backend, avatar, hop_frames, batch))
        batch *= 2
    return costs


def _measure_batch(
    backend: Backend, avatar: PreparedAvatar, hop_frames: int, batch: int
) -> HopCost:
    scheduler = Scheduler(backend)
    streams = [
        Stream(backend, AvatarSource(avatar), StreamOptions(hop_frames=hop_frames, seed=number))
        for number in range(batch)
    ]
    for stream in streams:
        scheduler.add(stream)
    began = time.monotonic()
    walls_ms: list[float] = []
    cpus_ms: list[float] = []
    for hop in range(WARM_HOPS + HOPS):
        sound = _speech(hop * hop_frames, hop_frames)
        for stream in streams:
            stream.push_audio(sound)
        wall, cpu = time.monotonic(), time.process_time()
        done = scheduler.run_due()
        if not done:
            continue  # the look-ahead of the first frames has not arrived
        while scheduler.run_due():
            pass
        walls_ms.append(1000 * (time.monotonic() - wall))
        cpus_ms.append(1000 * (time.process_time() - cpu))
        if time.monotonic() - began > BUDGET_S:
            break
    return HopCost(batch, statistics.median(walls_ms), statistics.median(cpus_ms))


def _speech(first_frame: int, frames: int) -> F32:
    """float32 [frames * 640]: a loud buzz that no gate takes for silence."""
    at = np.arange(first_frame * FRAME_SAMPLES, (first_frame + frames) * FRAME_SAMPLES)
    return (0.3 * np.sign(np.sin(2 * np.pi * 140 * at / SAMPLE_RATE_HZ))).astype(np.float32)
