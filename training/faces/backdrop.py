"""A room out of focus behind a face."""

from __future__ import annotations

import cv2
import numpy as np

from training.faces.canvas import Canvas, Floats, bump, noise
from training.faces.light import Light, tone

_CELL = 1.0  # units a pixel of the small picture that is blurred spans
_LENS = 7.0  # radius of a point's disc, in units


def paint_backdrop(light: Light, canvas: Canvas, rng: np.random.Generator) -> Floats:
    """Display colours, float32 [rows, columns, 3]: a wall, a window or lamps, furniture.

    Linear light is spread over the disc of an open lens before the tone curve, so that
    bright things stay discs as in a photograph.
    """
    small = canvas.coarser(_CELL)
    x, y = small.grid()
    top, bottom = (np.asarray(c, np.float32) for c in light.background)
    share = np.clip((y + 40.0) / 150.0 + 0.08 * noise(small, 30.0, rng), 0, 1)[..., None]
    room = (top * (1 - share) + bottom * share).astype(np.float32)
    towards = float(np.sign(light.key[0])) or 1.0
    room *= (0.82 + 0.5 * bump(x, y, 55.0 * towards, 0.0, 70.0, 70.0))[..., None]
    level = float(np.mean(light.background))
    for _ in range(int(rng.integers(2, 6))):
        left, up = rng.uniform(-95, 80), rng.uniform(-60, 70)
        wide, high = rng.uniform(8, 45), rng.uniform(15, 80)
        inside = (x > left) & (x < left + wide) & (y > up) & (y < up + high)
        tint = np.clip(rng.normal(1.0, 0.05, 3), 0.8, 1.2) * rng.uniform(0.55, 1.25)
        room[inside] *= tint.astype(np.float32)
    for _ in range(int(rng.integers(0, 4))):
        cx, cy, radius = rng.uniform(-90, 90), rng.uniform(-60, 40), rng.uniform(1.0, 2.2)
        lamp = np.hypot(x - cx, y - cy) < radius
        room[lamp] += np.asarray([1.0, 0.8, 0.55], np.float32) * (2.0 + 10.0 * level)
    size = int(2 * _LENS / _CELL) | 1
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (size, size)).astype(np.float32)
    soft = cv2.filter2D(room, -1, disc / disc.sum(), borderType=cv2.BORDER_REPLICATE)
    soft = cv2.GaussianBlur(soft, (0, 0), 1.6 / _CELL)
    step = canvas.density * _CELL
    column = np.arange(canvas.columns, dtype=np.float32) / step
    row = np.arange(canvas.rows, dtype=np.float32) / step
    fine_x, fine_y = np.meshgrid(column, row)
    return tone(cv2.remap(soft, fine_x, fine_y, cv2.INTER_LINEAR, None, cv2.BORDER_REPLICATE))
