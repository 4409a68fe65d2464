"""Faces in a picture: one protocol for every detector.

A detector gives the three points that alignment reads: the centres of both
brows and the nose between bridge and tip.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from engine.media import F32, Picture
from engine.published import FACE_DETECTOR_FILE, FACE_LANDMARKS_FILE


@dataclass(frozen=True, slots=True)
class FaceBox:
    """A square around a face, in pixels."""

    left: float
    top: float
    size: float

    @property
    def centre(self) -> tuple[float, float]:
        return self.left + self.size / 2, self.top + self.size / 2

    def distance(self, other: FaceBox) -> float:
        """How far the centres and the sizes differ, in this box's sides."""
        (x, y), (u, v) = self.centre, other.centre
        apart = max(abs(u - x), abs(v - y)) / self.size
        return max(apart, abs(other.size / self.size - 1.0))


@dataclass(frozen=True, slots=True)
class DetectedFace:
    """A face.

    Attributes:
        points: float32 [3, 2], left brow, right brow (left = smaller x), nose, in pixels.
        sure: the points were measured, not taken from the box.
        yaw: radians that the head is turned to the picture's right, where the detector
            measures it; None where it can't.
    """

    box: FaceBox
    points: F32
    sure: bool = True
    yaw: float | None = None


class FaceDetector(Protocol):
    """Finds faces; keeps nothing of the pictures, so sessions of one thread may share it.

    Attributes:
        parts: a full search is cut into so many, for one picture each. Part 0 finds the
            largest faces.
    """

    parts: int

    def search(self, picture: Picture, part: int) -> list[DetectedFace]:
        """The faces that part `part` of a full search finds, the largest first."""

    def search_near(self, picture: Picture, near: FaceBox) -> list[DetectedFace]:
        """The faces about as large as `near` and not far from it, the nearest first."""

    def cost(self, picture: Picture, part: int | None) -> int:
        """The work of a part of a full search, or of one near a face (None).

        Counted, not timed: pixels that a classifier scans, summed over its scales.
        """


def open_detector(model_dir: Path | None = None) -> FaceDetector:
    """The best detector that is there.

    Args:
        model_dir: of the model that will be run. With InsightFace's two files in it (what
            LatentSync was trained with; `lipwire fetch` puts them there) they are used;
            otherwise OpenCV's cascades, which need no file.

    Raises:
        ConfigError: the cascades are absent.
        ModelError: InsightFace's files cannot be used.
    """
    if model_dir is not None and has_insightface(model_dir):
        from engine.face.insightface import InsightFaceDetector

        return InsightFaceDetector(model_dir / FACE_DETECTOR_FILE, model_dir / FACE_LANDMARKS_FILE)
    from engine.face.haar import HaarDetector

    return HaarDetector()


def has_insightface(model_dir: Path) -> bool:
    """Whether both of InsightFace's files are in the folder."""
    return (model_dir / FACE_DETECTOR_FILE).is_file() and (
        model_dir / FACE_LANDMARKS_FILE
    ).is_file()
