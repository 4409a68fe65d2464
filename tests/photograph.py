"""A photograph of a person (Grace Hopper, public domain, part of matplotlib) for face tests."""

from __future__ import annotations

import cv2
import numpy as np
from matplotlib import cbook

from engine.media import F32, U8, Picture

# Read off the photograph by eye, in pixels; the brows hide behind the glasses' rims.
BROWS = ((221, 166), (305, 164))
NOSE = (264, 216)


def portrait_rgb() -> U8:
    """uint8 RGB [600, 512, 3]."""
    path = str(cbook.get_sample_data("grace_hopper.jpg", asfileobj=False))
    return np.asarray(cv2.imread(path), np.uint8)[..., ::-1].copy()


def portrait() -> U8:
    """Its luma, uint8 [600, 512]."""
    return np.asarray(cv2.cvtColor(portrait_rgb(), cv2.COLOR_RGB2GRAY), np.uint8)


def moved_portrait(index: int) -> tuple[U8, F32]:
    """Picture `index` of a head that nods, leans and comes closer, and where it went.

    Returns:
        uint8 [480, 512] and the [2, 3] similarity from the photograph to it.
    """
    angle = 6.0 * np.sin(index / 13)
    motion = cv2.getRotationMatrix2D((265, 210), angle, 1 + 0.08 * np.sin(index / 17))
    motion[:, 2] += [30 * np.sin(index / 11), 10 * np.sin(index / 7)]
    still = cv2.warpAffine(portrait(), motion, (512, 480), borderMode=cv2.BORDER_REPLICATE)
    noise = np.random.default_rng(index).normal(0, 3, still.shape)
    return np.clip(still + noise, 0, 255).astype(np.uint8), motion.astype(np.float32)


def as_picture(luma: U8) -> Picture:
    """A grey picture."""
    height, width = luma.shape
    chroma = np.full((height // 2, width), 128, np.uint8)
    return Picture(np.concatenate([luma, chroma]))
