"""What a recorded call got between two moments: sound, pictures, and what its server said."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.caller import BLOCK_SAMPLES, SOUND_HZ, RecordedCall
from server.client.capture import I16
from server.protocol import Stats

NOISE = 3000  # of int16
SILENT_PEAK = 200  # what is quieter came without the noise
# Between two packets of 20 ms. A process that is over its quota stands still for up to 100 ms, for
# which a browser's buffer grows; what is longer is heard.
STUTTER_S = 0.15
SYNCED_SHARE = 0.9  # of what it was before
GOOD_FPS = 24.0
LOOK_EVERY_S = 0.1


def steady_noise(seconds: float) -> I16:
    """48 kHz sound without a pause: a block that comes back silent was lost on the way in."""
    minute = np.random.default_rng(0).standard_normal(60 * SOUND_HZ) * NOISE
    return np.resize(minute.astype(np.int16), int(seconds * SOUND_HZ))


@dataclass(frozen=True, slots=True)
class Phase:
    """What one call got between two moments.

    Attributes:
        lost_sound_ms, silent_sound_ms: whose place stayed empty, or that came without the noise.
        longest_sound_gap_ms, stutters: between two packets, and how many gaps were over 150 ms.
        playout_delay_ms: the most by which the server held sound back.
        fps, longest_picture_gap_ms: of the pictures that came.
        synced: mean share of generated mouth.
        late_hops: dropped whole by the engine.
    """

    lost_sound_ms: float
    silent_sound_ms: float
    longest_sound_gap_ms: float
    stutters: int
    playout_delay_ms: float | None
    fps: float
    longest_picture_gap_ms: float
    synced: float | None
    late_hops: int


class Watched:
    """One call, and the server's figures of it with their time of arrival."""

    def __init__(self, caller: RecordedCall) -> None:
        self.caller = caller
        self.told: list[tuple[float, Stats]] = []

    def look(self) -> None:
        """Notes the newest figures."""
        stats = self.caller.call.stats
        if stats is not None and (not self.told or self.told[-1][1] is not stats):
            self.told.append((time.monotonic(), stats))

    def phase(self, began: float, ended: float) -> Phase:
        """What came between two moments of the monotonic clock."""
        received = self.caller.received
        sound = [(at, pts, peak) for at, pts, peak, _ in received.sound if began <= at < ended]
        steps = np.diff([pts for _, pts, _ in sound])
        waits = np.diff([began, *(at for at, *_ in sound), ended])
        pictures = [at for at, *_ in received.video if began <= at < ended]
        gaps = np.diff([began, *pictures, ended])
        told = [stats for at, stats in self.told if began <= at < ended]
        before = [stats for at, stats in self.told if at < began]
        late = told[-1].late_hops - (before[-1].late_hops if before else 0) if told else 0
        silent = sum(peak < SILENT_PEAK for *_, peak in sound)
        return Phase(
            lost_sound_ms=1000 * int(np.maximum(steps - BLOCK_SAMPLES, 0).sum()) / SOUND_HZ,
            silent_sound_ms=1000 * silent * BLOCK_SAMPLES / SOUND_HZ,
            longest_sound_gap_ms=round(1000 * float(waits.max()), 1),
            stutters=int((waits > STUTTER_S).sum()),
            playout_delay_ms=max((stats.playout_delay_ms for stats in told), default=None),
            fps=round(len(pictures) / (ended - began), 2),
            longest_picture_gap_ms=round(1000 * float(gaps.max()), 1),
            synced=round(float(np.mean([stats.synced for stats in told])), 2) if told else None,
            late_hops=late,
        )

    def synced_again(self, since: float, synced: float) -> float | None:
        """Seconds until a second with enough generated pictures, after which none was worse."""
        good_from: float | None = None
        for at, stats in self.told:
            if at < since:
                continue
            if stats.fps >= GOOD_FPS and stats.synced >= SYNCED_SHARE * synced:
                good_from = good_from or at
            else:
                good_from = None
        return None if good_from is None else round(good_from - since, 2)


async def watch(calls: Sequence[Watched], seconds: float) -> tuple[float, float]:
    """Lets so many seconds pass; when they began and ended."""
    began = time.monotonic()
    while time.monotonic() < began + seconds:
        await asyncio.sleep(LOOK_EVERY_S)
        for call in calls:
            call.look()
    return began, time.monotonic()
