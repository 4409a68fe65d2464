"""What following a face answers for one picture."""

from __future__ import annotations

from dataclasses import dataclass

from engine.gate import FaceClosed
from engine.media import F32


@dataclass(frozen=True, slots=True)
class TrackedFace:
    """A face in one picture.

    Attributes:
        points: float32 [3, 2], left brow, right brow, nose.
        confidence: 1.0 just confirmed by the detector, falling to 0.0 as searches fail.
        yaw: radians that the head is turned to the picture's right.
    """

    points: F32
    confidence: float
    yaw: float = 0.0


@dataclass(frozen=True, slots=True)
class Tracked:
    """What one picture showed.

    Attributes:
        face: where it is, known too while it is turned away or covered.
        cut: the picture does not continue the one before it; the first one never does.
        closed: why a generated mouth must not be shown; None: it may.
        stranger: from this picture on another person is followed.
    """

    face: TrackedFace | None
    cut: bool
    closed: FaceClosed | None = None
    stranger: bool = False
