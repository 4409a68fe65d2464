"""What a camera adds to a picture: its curve, its white balance, its grain."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np

from engine.media import F32, U8
from training.faces.renderer import CROP_PIXELS

_TILE: Final = 192  # pixels a side of the grain that frames cut their own from


@dataclass(frozen=True, slots=True)
class Camera:
    """One camera and its setting.

    Attributes:
        curve: uint8 [256, 3], level in, level out.
        grain: standard deviation in levels.
    """

    curve: U8
    grain: float

    @classmethod
    def plain(cls) -> Camera:
        """A camera that adds nothing."""
        return cls(np.repeat(np.arange(256, dtype=np.uint8)[:, None], 3, axis=1), 0.0)

    @classmethod
    def sample(cls, rng: np.random.Generator) -> Camera:
        """A webcam or a phone: slight errors of exposure, contrast and white balance."""
        level = np.arange(256) / 255.0
        gamma = rng.uniform(0.88, 1.14)
        gain = rng.uniform(0.92, 1.06) * rng.normal(1.0, 0.025, 3)
        lift = rng.uniform(0.0, 0.03)
        curve = np.clip(lift + (1 - lift) * gain * level[:, None] ** gamma, 0, 1)
        return cls(np.asarray(np.round(curve * 255), np.uint8), float(rng.uniform(0.0, 1.6)))

    def grains(self, frames: int, rng: np.random.Generator) -> list[F32]:
        """Grain of each frame, [128, 128, 1]. All that one frame shows shares its grain."""
        tile = rng.standard_normal((_TILE, _TILE, 1)).astype(np.float32) * self.grain
        places = rng.integers(_TILE - CROP_PIXELS, size=(frames, 2))
        return [tile[r : r + CROP_PIXELS, c : c + CROP_PIXELS] for r, c in places]

    def take(self, picture: U8, grain: F32) -> U8:
        """The picture, uint8 RGB [128, 128, 3], as the camera records it."""
        graded = np.asarray(cv2.LUT(picture, self.curve[None]), np.float32)
        return np.asarray(np.clip(graded + grain + 0.5, 0, 255), np.uint8)
