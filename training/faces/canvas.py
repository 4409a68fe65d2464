"""A grid of face units that the static layers of a face are painted on.

Face units are those of the alignment template: brow centres near (17, 20) and
(58, 20), the nose near (37.5, 40); x to the right, y down, z towards the
viewer. One unit is about 1.7 mm of a grown person's face.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[Any]  # float32 unless said otherwise; cv2's stubs promise less

MIDLINE = 37.5  # x of the face's plane of symmetry


@dataclass(frozen=True, slots=True)
class Canvas:
    """The rectangle x0..x0+width, y0..y0+height in units at `density` pixels a unit."""

    x0: float
    y0: float
    columns: int
    rows: int
    density: float

    def grid(self) -> tuple[Floats, Floats]:
        """x relative to the midline and y, each float32 [rows, columns], at pixel centres."""
        x = self.x0 + np.arange(self.columns, dtype=np.float32) / self.density - MIDLINE
        y = self.y0 + np.arange(self.rows, dtype=np.float32) / self.density
        grid_x, grid_y = np.meshgrid(x.astype(np.float32), y.astype(np.float32))
        return grid_x, grid_y

    def origin(self) -> Floats:
        """float64 [2]: what to add to points (x from the midline, y) before `density` scales."""
        return np.asarray([MIDLINE - self.x0, -self.y0])

    def coarser(self, density: float) -> Canvas:
        """The same rectangle at another density, never cut short."""
        ratio = density / self.density
        return Canvas(
            self.x0,
            self.y0,
            int(np.ceil((self.columns - 1) * ratio)) + 1,
            int(np.ceil((self.rows - 1) * ratio)) + 1,
            density,
        )


def noise(canvas: Canvas, cell: float, rng: np.random.Generator, octaves: int = 1) -> Floats:
    """Smooth noise of unit variance, float32 [rows, columns]; `cell` is its grain in units."""
    total = np.zeros((canvas.rows, canvas.columns), np.float32)
    weight = 1.0
    for _ in range(octaves):
        step = max(cell * canvas.density, 1.0)
        size = (int(canvas.columns / step) + 4, int(canvas.rows / step) + 4)
        coarse = rng.standard_normal((size[1], size[0])).astype(np.float32)
        span = (round(size[0] * step), round(size[1] * step))
        fine = cv2.resize(coarse, span, interpolation=cv2.INTER_CUBIC)
        total += weight * fine[: canvas.rows, : canvas.columns]
        cell, weight = cell / 2, weight / 2
    return total / float(total.std() + 1e-6)


def blur(image: Floats, sigma: float) -> Floats:
    """Gaussian blur; a wide one is done at reduced size."""
    factor = max(1, int(sigma / 3))
    if factor == 1:
        return np.asarray(cv2.GaussianBlur(image, (0, 0), max(sigma, 0.01)), np.float32)
    height, width = image.shape[:2]
    small = cv2.resize(
        image, (max(width // factor, 2), max(height // factor, 2)), interpolation=cv2.INTER_AREA
    )
    small = cv2.GaussianBlur(small, (0, 0), sigma / factor)
    return np.asarray(cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR))


def smoothstep(low: Floats | float, high: Floats | float, value: Floats) -> Floats:
    """0 below `low`, 1 above `high`, smooth between; falls when high < low."""
    t = np.clip((value - low) / (high - low), 0.0, 1.0)
    return np.asarray(t * t * (3.0 - 2.0 * t), np.float32)


def bump(x: Floats, y: Floats, cx: float, cy: float, sx: float, sy: float) -> Floats:
    """A Gaussian of height 1."""
    return np.asarray(np.exp(-0.5 * (((x - cx) / sx) ** 2 + ((y - cy) / sy) ** 2)), np.float32)
