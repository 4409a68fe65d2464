"""Faces in a picture's luma: one protocol, and the detector that needs no download.

A detector gives the three points that alignment reads: the centres of both
brows and the nose between bridge and tip.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

import cv2
import numpy as np

from engine.errors import ConfigError
from engine.media import F32, U8


@dataclass(frozen=True, slots=True)
class FaceBox:
    """A square around a face, in pixels."""

    left: float
    top: float
    size: float

    @property
    def centre(self) -> tuple[float, float]:
        return self.left + self.size / 2, self.top + self.size / 2


@dataclass(frozen=True, slots=True)
class DetectedFace:
    """A face.

    Attributes:
        points: float32 [3, 2], left brow, right brow (left = smaller x), nose, in pixels.
        sure: the points were measured, not taken from the box.
    """

    box: FaceBox
    points: F32
    sure: bool = True


class FaceDetector(Protocol):
    """Finds the largest face."""

    def find(self, luma: U8, near: FaceBox | None = None) -> DetectedFace | None:
        """The face in `luma`, uint8 [h, w].

        Args:
            near: where the face was a moment ago: search there only, which is
                some ten times cheaper than the whole picture.
        """


# Where things are in a face, in units of LatentSync's template (75 x 100), from the middle
# between the eyes; means over people.
_BROWS: Final = (18.6, -12.0)  # half their distance, height
_NOSE: Final = 12.8
_EYES: Final = 36.4  # their distance
# The box of haarcascade_frontalface_alt2: its side in these units, and the eyes' height in it.
_BOX_UNITS: Final = 89.0
_BOX_EYES: Final = 0.385

_EYES_TRUST: Final = 0.75  # their distance against the box's side, for the face's size

_SEARCH_PIXELS: Final = 288  # the longer side that a full search looks at
_NEAR_PIXELS: Final = 72  # the face's side that a search near it looks at
_EYE_PIXELS: Final = 140  # the face's side in which eyes are looked for
_SMALLEST: Final = 0.14  # of the picture's longer side


class HaarDetector:
    """OpenCV's frontal face cascade, its eyes refined by the eye cascade.

    Finds faces turned by up to 30 degrees or so and leaning by up to 15.
    """

    def __init__(self) -> None:
        self._face = _cascade("haarcascade_frontalface_alt2.xml")
        self._eye = _cascade("haarcascade_eye.xml")

    def find(self, luma: U8, near: FaceBox | None = None) -> DetectedFace | None:
        box = self._search(luma) if near is None else self._search_near(luma, near)
        if box is None:
            return None
        eyes = self._eyes(luma, box)
        return DetectedFace(box, _points(box, eyes), eyes is not None)

    def _search(self, luma: U8) -> FaceBox | None:
        scale = min(_SEARCH_PIXELS / max(luma.shape), 1.0)
        smallest = int(_SMALLEST * max(luma.shape) * scale)
        small = cv2.resize(luma, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        found = self._face.detectMultiScale(small, 1.17, 3, minSize=(smallest, smallest))
        if len(found) == 0:
            return None
        left, top, size, _ = max(found, key=lambda box: int(box[2]))
        coarse = FaceBox(left / scale, top / scale, size / scale)
        return self._search_near(luma, coarse) or coarse

    def _search_near(self, luma: U8, near: FaceBox) -> FaceBox | None:
        scale = _NEAR_PIXELS / near.size
        margin = 0.3 * near.size
        left, top = max(int(near.left - margin), 0), max(int(near.top - margin), 0)
        right, bottom = int(near.left + near.size + margin), int(near.top + near.size + margin)
        part = luma[top:bottom, left:right]
        if min(part.shape) < 0.8 * near.size:
            return None
        small = cv2.resize(part, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        low, high = int(0.75 * _NEAR_PIXELS), int(1.33 * _NEAR_PIXELS)
        found = self._face.detectMultiScale(
            small, 1.06, 2, minSize=(low, low), maxSize=(high, high)
        )
        if len(found) == 0:
            return None
        x, y = near.centre

        def distance(box: FaceBox) -> float:
            return abs(box.centre[0] - x) + abs(box.centre[1] - y)

        boxes = [FaceBox(left + f[0] / scale, top + f[1] / scale, f[2] / scale) for f in found]
        return min(boxes, key=distance)

    def _eyes(self, luma: U8, box: FaceBox) -> F32 | None:
        scale = _EYE_PIXELS / box.size
        found = []
        for side in (0.1, 0.5):
            left, top = int(box.left + side * box.size), int(box.top + 0.2 * box.size)
            part = luma[
                max(top, 0) : max(top + int(0.36 * box.size), 0),
                max(left, 0) : max(left + int(0.4 * box.size), 0),
            ]
            if min(part.shape) < 8:
                return None
            small = cv2.resize(part, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
            boxes = self._eye.detectMultiScale(small, 1.08, 3, minSize=(22, 22), maxSize=(48, 48))
            if len(boxes) == 0:
                return None
            x, y, w, h = max(boxes, key=lambda eye: int(eye[2]))
            found.append([max(left, 0) + (x + w / 2) / scale, max(top, 0) + (y + 0.56 * h) / scale])
        eyes = np.array(found, np.float32)
        across, down = np.abs(eyes[1] - eyes[0]) / box.size
        plausible = 0.25 < across < 0.5 and down < 0.35 * across
        return eyes if plausible else None


def _points(box: FaceBox, eyes: F32 | None) -> F32:
    """The points by the eyes where both are found, else by the box alone."""
    middle = np.array([box.left + 0.5 * box.size, box.top + _BOX_EYES * box.size])
    unit = box.size / _BOX_UNITS
    across = np.array([1.0, 0.0])
    if eyes is not None:
        between = eyes[1] - eyes[0]
        length = float(np.hypot(*between))
        across = between / length
        between_eyes = eyes.mean(axis=0)
        middle = np.array([0.5 * (middle[0] + between_eyes[0]), between_eyes[1]])
        unit += _EYES_TRUST * (length / _EYES - unit)
    down = np.array([-across[1], across[0]])
    brow_x, brow_y = _BROWS
    brows = middle + brow_y * unit * down
    return np.stack(
        [
            brows - brow_x * unit * across,
            brows + brow_x * unit * across,
            middle + _NOSE * unit * down,
        ]
    ).astype(np.float32)


def _cascade(name: str) -> cv2.CascadeClassifier:
    path = Path(cv2.__file__).parent / "data" / name
    cascade = cv2.CascadeClassifier(str(path))
    if cascade.empty():
        raise ConfigError(f"expected OpenCV's cascade {name} in {path.parent}: opencv before 5.0")
    return cascade
