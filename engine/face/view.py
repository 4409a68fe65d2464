"""A face seen straight: its picture in the units of LatentSync's face template.

What judges a face (is it turned, covered, the same as before?) reads this small
view, where one pixel is one unit, whatever the size of the picture.
"""

from __future__ import annotations

from typing import Final

import cv2
import numpy as np

from engine.face.align import align_affine
from engine.face.paste_back import planes
from engine.media import F32, U8, Picture
from engine.spec import FaceSpec

WIDTH, HEIGHT = 72, 92
ABOVE: Final = 16  # rows above the brows
MIDDLE: Final = (WIDTH - 1) / 2  # the column of the nose in a face seen straight
_TEMPLATE: Final = FaceSpec(
    template=((MIDDLE - 20.5, ABOVE), (MIDDLE + 20.5, ABOVE), (MIDDLE, ABOVE + 20.0)),
    crop_width=WIDTH,
    crop_height=HEIGHT,
)
UNIT_BROWS: Final = 37.2  # between the brows, in units; means over people


def view_affine(points: F32) -> F32:
    """float32 [2, 3] from picture pixels to pixels of the view.

    Args:
        points: [3, 2] left brow, right brow, nose in picture pixels.
    """
    return align_affine(points, _TEMPLATE)


def face_view(picture: Picture, points: F32) -> F32:
    """float32 [3, HEIGHT, WIDTH]: Y, U and V of the face, row ABOVE at its brows.

    Args:
        points: [3, 2] left brow, right brow, nose in picture pixels.
    """
    affine = view_affine(points).astype(np.float64)
    luma, chroma = planes(picture.i420)
    halved = affine.copy()
    halved[:, :2] *= 2.0
    layers = [_warp(luma, affine), _warp(chroma[0], halved), _warp(chroma[1], halved)]
    return np.stack(layers).astype(np.float32)


def _warp(plane: U8, affine: np.ndarray[tuple[int, int], np.dtype[np.float64]]) -> U8:
    """The plane in the view, averaged where it is shrunk."""
    inverse = np.asarray(cv2.invertAffineTransform(affine))
    corners = np.array([[0, 0], [WIDTH, 0], [WIDTH, HEIGHT], [0, HEIGHT]], np.float64)
    places = corners @ inverse[:, :2].T + inverse[:, 2]
    height, width = plane.shape
    shrink = max(int(np.hypot(inverse[0, 0], inverse[1, 0])), 1)
    low = np.floor(places.min(axis=0)).astype(int) - 2 * shrink
    high = np.ceil(places.max(axis=0)).astype(int) + 2 * shrink
    left, top = int(np.clip(low[0], 0, width - 1)), int(np.clip(low[1], 0, height - 1))
    right, bottom = int(np.clip(high[0], left + 1, width)), int(np.clip(high[1], top + 1, height))
    part = plane[top:bottom, left:right]
    moved = affine.copy()
    moved[:, 2] += moved[:, :2] @ np.array([left, top], np.float64)
    if shrink > 1:
        part = np.asarray(cv2.blur(part, (shrink, shrink)), np.uint8)
    warped = cv2.warpAffine(
        part,
        moved.astype(np.float32),
        (WIDTH, HEIGHT),
        flags=cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REPLICATE,
    )
    return np.asarray(warped, np.uint8)
