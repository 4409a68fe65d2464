"""What a hop costs in this engine: real streams over an avatar, a whole batch of them at once."""

from __future__ import annotations

import time

import numpy as np

from engine.avatar import AvatarSource, PreparedAvatar
from engine.backends.base import Backend
from engine.media import F32, FRAME_SAMPLES, SAMPLE_RATE_HZ
from engine.scheduler import Scheduler
from engine.stream import Stream, StreamOptions
from server.capacity import HopCost

HOPS = 5  # of each batch size, after WARM_HOPS; the fastest counts
WARM_HOPS = 2
BUDGET_S = 1.0  # for all batch sizes together; what is too slow for it is not measured further


def measure_hops(backend: Backend, avatar: PreparedAvatar, hop_frames: int) -> list[HopCost]:
    """The cost of a step of the engine at batches of 1, 2, 4 ... hops.

    The fastest of several counts: what the machine does when it is left alone. Other work may
    come and go later, and late hops tell of it then.
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
    return HopCost(batch, min(walls_ms), min(cpus_ms))


def _speech(first_frame: int, frames: int) -> F32:
    """float32 [frames * 640]: a loud buzz that no gate takes for silence."""
    at = np.arange(first_frame * FRAME_SAMPLES, (first_frame + frames) * FRAME_SAMPLES)
    return (0.3 * np.sign(np.sin(2 * np.pi * 140 * at / SAMPLE_RATE_HZ))).astype(np.float32)
