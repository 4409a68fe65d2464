"""Ten minutes of one stream: does the face stay sharp, itself, and the memory as it was?"""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from benchmarks.quality.metrics import F64, look_error, sharpness
from benchmarks.quality.runs import Case, Opener, stream
from benchmarks.quality.scores import Judge
from engine.face.mask import mask_image
from engine.media import FPS

MINUTE_FRAMES: Final = 60 * FPS
_SETTLED: Final = 100  # frames of a stream's start that still differ from later rounds


@dataclass(frozen=True, slots=True)
class Drift:
    """Of one stream, by minute.

    Attributes:
        sharpness: mean |Laplacian| around the lips over the truth's.
        look_error: levels of coarse colour off the truth.
        change: levels by which pictures around the lips differ from those of the same input at
            the same place of the hop in the first rounds: 0 says that nothing drifts at all.
        memory_mb: resident memory of this process at the end of each minute.
    """

    seconds: float
    sharpness: list[float | None]
    look_error: list[float | None]
    change: list[float | None]
    memory_mb: list[float]

    def to_dict(self) -> dict[str, Any]:
        """For JSON, with the last minute against the first, and memory against the second."""
        before, after = self.memory_mb[min(1, len(self.memory_mb) - 1)], self.memory_mb[-1]
        known = [value for value in self.change if value is not None]
        return {
            **dataclasses.asdict(self),
            "sharpness_drift": round(_ends(self.sharpness, lambda a, b: b / a - 1), 5),
            "look_drift": round(_ends(self.look_error, lambda a, b: b - a), 5),
            "last_change": known[-1] if known else None,
            "memory_growth": round(after / before - 1, 5),
        }


def _ends(values: list[float | None], between: Callable[[float, float], float]) -> float:
    known = [value for value in values if value is not None]
    return between(known[0], known[-1])


def measure_drift(
    opener: Opener,
    case: Case,
    judge: Judge,
    seconds: float,
    memory_mb: Callable[[], float] | None = None,
    minute_frames: int = MINUTE_FRAMES,
) -> Drift:
    """A stream of the first take, round and round.

    Raises:
        ValueError: less than a minute.
    """
    take, box = judge.takes[0], judge.box
    memory = resident_mb if memory_mb is None else memory_mb
    generated = 1.0 - mask_image(judge.spec)
    frames = int(seconds * FPS) // minute_frames * minute_frames
    if frames < minute_frames:
        raise ValueError(f"expected at least {minute_frames} frames, got {int(seconds * FPS)}")
    ideal = sharpness(take.truth, box)
    again = math.lcm(take.frames, case.hop)  # the same input at the same place of the hop
    left, top, right, bottom = box
    first = np.zeros((again, bottom - top, right - left, 3), np.uint8)
    sharp, look, change = (np.full(frames, np.nan) for _ in range(3))
    held: list[float] = []
    for hop in stream(opener, case, [take], frames):
        made = np.arange(hop.frames.start, hop.frames.stop)
        crops, place = hop.crops[0], made % take.frames
        sharp[made] = sharpness(crops, box) / ideal[place]
        look[made] = look_error(crops, take.truth[place], generated)
        lips = crops[:, top:bottom, left:right]
        if made[0] < again:
            first[made] = lips
        elif made[0] % again >= _SETTLED:
            off = lips.astype(np.int16) - first[made % again]
            change[made] = np.abs(off).mean(axis=(1, 2, 3))
        if made[0] // minute_frames != hop.frames.stop // minute_frames:
            held.append(round(memory(), 1))
    sharper, looks, changes = (_minutes(series, minute_frames) for series in (sharp, look, change))
    return Drift(frames / FPS, sharper, looks, changes, held)


def resident_mb() -> float:
    """Resident memory of this process."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def _minutes(values: F64, frames: int) -> list[float | None]:
    """Means of whole minutes; None where none of a minute's frames has a value."""
    minutes = values[: len(values) // frames * frames].reshape(-1, frames)
    there = ~np.isnan(minutes)
    return [
        round(float(minute[known].mean()), 5) if known.any() else None
        for minute, known in zip(minutes, there, strict=True)
    ]
