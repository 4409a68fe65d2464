"""One speaker's face, frame by frame, and which frames may be learnt from.

The tracker and the gate are those that serve (`engine.face.track`): what they would not generate
a mouth for is not learnt from, and what is learnt from lies where they will put it. Beyond the
gate, a frame needs a face that is large enough, wholly in the picture and alone: of two people,
nobody knows who speaks.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np

from engine.errors import VideoFormatError
from engine.face.align import align_affine
from engine.face.detect import DetectedFace, FaceBox, FaceDetector
from engine.face.track import FaceTracker
from engine.gate import FaceClosed
from engine.media import F32, Picture
from engine.spec import FaceSpec
from training.prepare.pictures import GridFrame

LOOK_EVERY: Final = 8  # frames between two looks for other faces
GUARD_FRAMES: Final = 5  # beside what was left out: the gate closes late
OTHER_SIZE: Final = 0.5  # of the speaker's: smaller faces are of people in the background
_OTHER_PLACE: Final = 0.6  # of the speaker's size: what lies nearer is the speaker's own face
_IN_PICTURE: Final = 0.92  # share of the crop that the picture must cover
_GRID: Final = 12  # points each way by which that is judged

_CLOSED: Final[dict[FaceClosed, str]] = {
    "no_face": "no face",
    "profile": "face turned away",
    "occluded": "mouth covered",
    "cut": "no face found yet",
}


@dataclass(frozen=True, slots=True)
class FrameFace:
    """What one frame shows.

    Attributes:
        points: float32 [3, 2], left brow, right brow, nose, where the face can be used.
        reason: why it can't; None: it can.
        other: somebody else is followed from this frame on.
    """

    points: F32 | None
    reason: str | None
    other: bool = False


def crop_height(points: F32, face: FaceSpec) -> float:
    """How many of the picture's pixels the crop's height takes: what its detail is made of."""
    affine = align_affine(points, face).astype(np.float64)
    return face.crop_height / float(np.hypot(affine[0, 0], affine[1, 0]))


def follow_faces(
    frames: Iterable[GridFrame],
    shots: Sequence[range],
    detector: FaceDetector,
    face: FaceSpec,
    smallest: float,
) -> list[FrameFace]:
    """The speaker's face in every frame, one tracker a shot.

    Args:
        frames: of the whole video, in order.
        shots: ranges of frames that cover it.
        face: the crop that will be made.
        smallest: `crop_height` that is large enough.
    """
    result: list[FrameFace] = []
    pending = iter(shots)
    shot = next(pending, range(0))
    speaker = _Speaker(detector, face, smallest)
    for frame in frames:
        while frame.index >= shot.stop:
            result += speaker.finish()
            shot = next(pending)
            speaker = _Speaker(detector, face, smallest)
        speaker.add(frame)
    return result + list(speaker.finish())


class _Speaker:
    """One shot's face."""

    def __init__(self, detector: FaceDetector, face: FaceSpec, smallest: float) -> None:
        self._detector = detector
        self._tracker = FaceTracker(detector)
        self._face = face
        self._smallest = smallest
        self._frames: list[FrameFace] = []
        self._looks: list[tuple[int, bool]] = []

    def add(self, frame: GridFrame) -> None:
        picture = frame.picture()
        tracked = self._tracker.update(picture)
        reason: str | None = None
        points: F32 | None = None
        if frame.stale:
            reason = "no new picture"
        elif tracked.closed is not None:
            reason = _CLOSED[tracked.closed]
        elif tracked.face is None:
            reason = _CLOSED["no_face"]
        else:
            points = tracked.face.points
            reason = self._unfit(points, picture)
        index = len(self._frames)
        if index % LOOK_EVERY == 0 and self._tracker.state.box is not None:
            self._looks.append((index, self._others(picture, self._tracker.state.box)))
        # Within a shot the tracker's own cuts are people who come, go or jump.
        other = tracked.stranger or (tracked.cut and index > 0)
        self._frames.append(FrameFace(None if reason else points, reason, other))

    def finish(self) -> Iterator[FrameFace]:
        """The shot's frames; those with other people in them are known only now."""
        crowded = _crowded(self._looks, len(self._frames))
        for frame, several in zip(self._frames, crowded, strict=True):
            if several and frame.reason is None:
                yield FrameFace(None, "several faces", frame.other)
            else:
                yield frame

    def _unfit(self, points: F32, picture: Picture) -> str | None:
        try:
            if crop_height(points, self._face) < self._smallest:
                return "face too small"
            if _covered_share(points, self._face, picture) < _IN_PICTURE:
                return "face leaves the picture"
        except VideoFormatError:  # points that fell together
            return _CLOSED["no_face"]
        return None

    def _others(self, picture: Picture, speaker: FaceBox) -> bool:
        """Whether anybody else is there."""
        found: list[DetectedFace] = []
        for part in range(self._detector.parts):
            found += self._detector.search(picture, part)
        return any(_is_other(speaker, face.box) for face in found)


def _is_other(speaker: FaceBox, box: FaceBox) -> bool:
    (x, y), (u, v) = speaker.centre, box.centre
    apart = max(abs(u - x), abs(v - y))
    return box.size > OTHER_SIZE * speaker.size and apart > _OTHER_PLACE * speaker.size


def _crowded(looks: Sequence[tuple[int, bool]], frames: int) -> list[bool]:
    """Of every frame whether others were seen about then, in two looks in a row at least.

    A cascade takes a curtain for a face now and then; a person stays.
    """
    crowded = [False] * frames
    for place in range(len(looks)):
        seen = looks[place][1]
        before = place > 0 and looks[place - 1][1]
        after = place + 1 < len(looks) and looks[place + 1][1]
        if seen and (before or after):
            first = looks[place - 1][0] + 1 if place > 0 else 0
            stop = looks[place + 1][0] if place + 1 < len(looks) else frames
            crowded[first:stop] = [True] * (stop - first)
    return crowded


def _covered_share(points: F32, face: FaceSpec, picture: Picture) -> float:
    """Share of the face's crop that lies in the picture."""
    back = np.asarray(cv2.invertAffineTransform(align_affine(points, face).astype(np.float64)))
    across = (np.arange(_GRID) + 0.5) / _GRID
    x, y = np.meshgrid(across * face.crop_width, across * face.crop_height)
    places = np.stack([x.ravel(), y.ravel()], axis=1) @ back[:, :2].T + back[:, 2]
    inside = (places >= 0).all(axis=1) & (places < [picture.width, picture.height]).all(axis=1)
    return float(inside.mean())
