"""Small videos for the preparation's tests: a head that was rendered before, flashes and clicks."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np

from engine.media import F32, FPS, FRAME_SAMPLES, U8
from tests.rendered_heads import idle_heads
from training.prepare.pictures import GridFrame
from training.toy_videos import Track, steady, write_video

SIDE = 192


def heads(frames: int, name: str = "anna", side: int = SIDE) -> list[U8]:
    """A head that breathes and blinks, RGB [side, side, 3]."""
    shown = idle_heads(name, 60)
    small = [
        np.asarray(cv2.resize(head.picture, (side, side), interpolation=cv2.INTER_AREA), np.uint8)
        for head in shown[: min(frames, 60)]
    ]
    there_and_back = [*small, *small[::-1]]
    return [there_and_back[index % len(there_and_back)] for index in range(frames)]


def murmur(frames: int, seed: int = 0) -> F32:
    """Sound that is loud enough for speech, 16 kHz."""
    rng = np.random.default_rng(seed)
    return (0.1 * rng.standard_normal(frames * FRAME_SAMPLES)).astype(np.float32)


def head_video(path: Path, seconds: float, name: str = "anna") -> Path:
    """A video of one head at 25 frames a second with sound."""
    frames = round(seconds * FPS)
    return write_video(path, heads(frames, name), steady(frames), murmur(frames))


def flash_video(
    path: Path,
    times: Sequence[Fraction],
    flash: Fraction,
    click_s: float,
    track: Track | None = None,
) -> Path:
    """A dark video of which the pictures from `flash` on are white, and one click in silence."""
    dark, white = np.full((32, 48, 3), 20, np.uint8), np.full((32, 48, 3), 230, np.uint8)
    pictures = [white if time >= flash else dark for time in times]
    samples = np.zeros(round(float(times[-1] + (times[-1] - times[-2])) * 16_000), np.float32)
    place = round(click_s * 16_000)
    samples[place : place + 16] = 0.9
    return write_video(path, pictures, times, samples, track)


def brightness(frame: GridFrame) -> float:
    """Mean luma."""
    return float(frame.picture().luma.mean())
