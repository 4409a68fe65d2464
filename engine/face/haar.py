"""OpenCV's face cascade: the detector that needs no download."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import cv2
import numpy as np

from engine.errors import ConfigError
from engine.face.detect import DetectedFace, FaceBox
from engine.media import F32, U8, Picture

# Where things are in a face, in units of LatentSync's template (75 x 100), from the middle
# between the eyes; means over people.
_BROWS: Final = (18.6, -12.0)  # half their distance, height
_NOSE: Final = 12.8
_EYES: Final = 36.4  # their distance
# The box of haarcascade_frontalface_alt2: its side in these units, and the eyes' height in it.
BOX_UNITS: Final = 89.0
_BOX_EYES: Final = 0.385

_EYES_TRUST: Final = 0.75  # their distance against the box's side, for the face's size

_SEARCH_PIXELS: Final = 288  # the longer side that a full search looks at
_SEARCH_STEP: Final = 1.17
# Sides of the faces that each part of a full search finds, in shares of the picture's longer
# side: about equal work, 1 to 3 ms each.
_PARTS: Final = ((0.27, 1.0), (0.19, 0.27), (0.14, 0.19))
_NEAR_PIXELS: Final = 72  # the face's side that a search near it looks at
_NEAR_RANGE: Final = (0.75, 1.33)
_NEAR_STEP: Final = 1.06
_NEAR_MARGIN: Final = 0.3  # of the face's side
_EYE_PIXELS: Final = 140  # the face's side in which eyes are looked for
_WINDOW: Final = 20  # side of the cascade's window
_EYES_COST: Final = 8_000  # of both eyes: they are few pixels through a deep cascade


class HaarDetector:
    """OpenCV's frontal face cascade, its eyes refined by the eye cascade.

    Finds faces turned by up to 45 degrees or so and leaning by up to 15, and can't tell how
    far they are turned.
    """

    parts = len(_PARTS)

    def __init__(self) -> None:
        self._face = _cascade("haarcascade_frontalface_alt2.xml")
        self._eye = _cascade("haarcascade_eye.xml")

    def search(self, picture: Picture, part: int) -> list[DetectedFace]:
        luma = picture.luma
        longer = max(luma.shape)
        scale = min(_SEARCH_PIXELS / longer, 1.0)
        low, high = (int(share * longer * scale) for share in _PARTS[part])
        if high < _WINDOW:
            return []
        small = cv2.resize(luma, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        found = self._face.detectMultiScale(
            small, _SEARCH_STEP, 3, minSize=(low, low), maxSize=(high, high)
        )
        faces = []
        for left, top, size, _ in found:
            coarse = FaceBox(left / scale, top / scale, size / scale)
            near = self._boxes_near(luma, coarse)
            faces.append(self._face_of(luma, near[0] if near else coarse))
        return sorted(faces, key=lambda face: -face.box.size)

    def search_near(self, picture: Picture, near: FaceBox) -> list[DetectedFace]:
        luma = picture.luma
        return [self._face_of(luma, box) for box in self._boxes_near(luma, near)]

    def cost(self, picture: Picture, part: int | None) -> int:
        if part is None:
            side = int((1 + 2 * _NEAR_MARGIN) * _NEAR_PIXELS)
            low, high = (int(share * _NEAR_PIXELS) for share in _NEAR_RANGE)
            return _scanned(side * side, low, high, _NEAR_STEP) + _EYES_COST
        longer = max(picture.luma.shape)
        scale = min(_SEARCH_PIXELS / longer, 1.0)
        low, high = (int(share * longer * scale) for share in _PARTS[part])
        return _scanned(int(picture.luma.size * scale * scale), low, high, _SEARCH_STEP)

    def _boxes_near(self, luma: U8, near: FaceBox) -> list[FaceBox]:
        scale = _NEAR_PIXELS / near.size
        margin = _NEAR_MARGIN * near.size
        left, top = max(int(near.left - margin), 0), max(int(near.top - margin), 0)
        right, bottom = int(near.left + near.size + margin), int(near.top + near.size + margin)
        part = luma[top : max(bottom, 0), left : max(right, 0)]
        if min(part.shape) < 0.8 * near.size:
            return []
        small = cv2.resize(part, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        low, high = (int(share * _NEAR_PIXELS) for share in _NEAR_RANGE)
        found = self._face.detectMultiScale(
            small, _NEAR_STEP, 2, minSize=(low, low), maxSize=(high, high)
        )
        boxes = [FaceBox(left + f[0] / scale, top + f[1] / scale, f[2] / scale) for f in found]
        x, y = near.centre
        return sorted(boxes, key=lambda box: abs(box.centre[0] - x) + abs(box.centre[1] - y))

    def _face_of(self, luma: U8, box: FaceBox) -> DetectedFace:
        eyes = self._eyes(luma, box)
        return DetectedFace(box, _points(box, eyes), eyes is not None)

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
    unit = box.size / BOX_UNITS
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


def _scanned(pixels: int, low: int, high: int, step: float) -> int:
    """Pixels that windows from `low` to `high` scan of a picture, over all scales."""
    total, window = 0.0, float(max(low, _WINDOW))
    while window <= high:
        total += pixels * (_WINDOW / window) ** 2
        window *= step
    return int(total)


def _cascade(name: str) -> cv2.CascadeClassifier:
    path = Path(cv2.__file__).parent / "data" / name
    cascade = cv2.CascadeClassifier(str(path))
    if cascade.empty():
        raise ConfigError(f"expected OpenCV's cascade {name} in {path.parent}: opencv before 5.0")
    return cascade
