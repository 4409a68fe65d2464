"""Pictures of a bundled avatar's head, to be turned, covered and shown to a tracker."""

from __future__ import annotations

import functools
from pathlib import Path

import cv2
import numpy as np

import engine
from benchmarks.gate_scenes import Camera, Head, framed
from engine.avatar import load_avatar
from engine.media import Picture

_AVATARS = Path(engine.__file__).parent / "bundled" / "avatars"


@functools.lru_cache(maxsize=2)
def idle_heads(name: str, frames: int = 60) -> tuple[Head, ...]:
    """The first pictures of its idle clip: it breathes, moves a little and blinks."""
    avatar = load_avatar(_AVATARS / name)
    heads = []
    for picture, points in zip(avatar.pictures[:frames], avatar.points, strict=False):
        rgb = cv2.cvtColor(picture.i420, cv2.COLOR_YUV2RGB_I420)
        heads.append(Head(np.asarray(rgb, np.uint8), points))
    return tuple(heads)


def shot(head: Head, seed: int = 0, width: int = 640, height: int = 480) -> Picture:
    """The head as a webcam sends it."""
    return Camera().shoot(framed(head, width, height)[0], seed)
