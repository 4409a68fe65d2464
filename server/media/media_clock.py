"""The unit of time of the server: ticks of 48 kHz, which is one sample of the sound it plays.

Media time counts ticks since the session began; the wall is the monotonic
clock in the same unit, so that pairing sound, pictures and deadlines is
integer arithmetic. One 40 ms frame is 1920 ticks, one 16 kHz sample is three.
"""

from __future__ import annotations

import time

from engine.media import FRAME_SAMPLES, SAMPLE_RATE_HZ

TICK_HZ = 48_000
TICKS_PER_MS = TICK_HZ // 1000  # 48
TICKS_PER_SAMPLE = TICK_HZ // SAMPLE_RATE_HZ  # 3
FRAME_TICKS = FRAME_SAMPLES * TICKS_PER_SAMPLE  # 1920: one picture at 25 fps
SOUND_TICKS = 960  # one 20 ms block of sound


def now_ticks() -> int:
    """The monotonic clock in ticks."""
    return time.monotonic_ns() * TICKS_PER_MS // 1_000_000


def to_ms(ticks: int) -> float:
    return ticks / TICKS_PER_MS


def to_seconds(ticks: int) -> float:
    return ticks / TICK_HZ
