"""One face followed through a session's pictures.

A detector looks at a picture now and then; in between, the face moves with
the optical flow of its upper half (the mouth below moves on its own). Flow is
smooth to a fraction of a pixel, detection is not but does not drift, so each
detection pulls the flow's points a little.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

import cv2
import numpy as np

from engine.face.detect import DetectedFace, FaceBox, FaceDetector
from engine.media import F32, U8

DETECT_EVERY: Final = 8  # pictures between two searches near the face
SEARCH_EVERY: Final = 6  # pictures between two full searches while there is no face
MISSES: Final = 3  # searches near the face that may fail in a row: 1 s
_FLOW_HEIGHT: Final = 360  # flow runs on pictures of at most this height
_FLOW_POINTS: Final = 60
_RESEED: Final = 30  # flow points below which new ones are chosen
_FEWEST: Final = 8  # flow points below which the movement is not trusted
_PULL: Final = 0.12  # share of a detection's difference that moves the points at once
_PULL_UNSURE: Final = 0.02  # the same for points that were not measured (a blink, glasses)
_PULL_ALONE: Final = 0.4  # the same where the flow failed
_FAR: Final = 0.12  # a detection this far off (in box sides) is believed at once
_CUT: Final = 28.0  # mean luma difference of two thumbnails: another scene
_THUMBNAIL: Final = (32, 24)


@dataclass(frozen=True, slots=True)
class TrackedFace:
    """A face in one picture.

    Attributes:
        points: float32 [3, 2], left brow, right brow, nose.
        confidence: 1.0 just confirmed by the detector, falling to 0.0 as searches fail.
    """

    points: F32
    confidence: float


@dataclass(frozen=True, slots=True)
class Tracked:
    """What one picture showed.

    Attributes:
        cut: the picture does not continue the one before it; the first one never does.
    """

    face: TrackedFace | None
    cut: bool


@dataclass(slots=True)
class TrackState:
    """Everything that following one face changes.

    Attributes:
        luma: the last picture, scaled by `scale`.
        flow_points: float32 [n, 1, 2] on that picture.
        box, points: the face in the picture's own pixels.
        since_search: pictures since the detector last looked.
        misses: searches in a row that found nothing.
    """

    luma: U8 | None = None
    thumbnail: F32 | None = None
    size: tuple[int, int] = (0, 0)
    scale: float = 1.0
    flow_points: F32 = field(default_factory=lambda: np.zeros((0, 1, 2), np.float32))
    box: FaceBox | None = None
    points: F32 = field(default_factory=lambda: np.zeros((3, 2), np.float32))
    since_search: int = SEARCH_EVERY
    misses: int = 0


class FaceTracker:
    """Follows one face.

    Args:
        detector: may be shared by sessions of one thread.
    """

    def __init__(self, detector: FaceDetector) -> None:
        self.state = TrackState()
        self._detector = detector

    def reset(self) -> None:
        """Forgets the face and the picture before."""
        self.state = TrackState()

    def update(self, luma: U8) -> Tracked:
        """The face in the next picture, uint8 [h, w]."""
        cut = self._is_cut(luma)
        if cut:
            self.reset()
        state = self.state
        state.size = (luma.shape[0], luma.shape[1])
        state.thumbnail = _thumbnail(luma)
        state.scale = min(_FLOW_HEIGHT / luma.shape[0], 1.0)
        small = luma
        if state.scale < 1.0:
            small = np.asarray(
                cv2.resize(
                    luma, None, fx=state.scale, fy=state.scale, interpolation=cv2.INTER_AREA
                ),
                np.uint8,
            )
        flowed = state.box is not None and self._flow(small)
        state.luma = small
        if flowed and len(state.flow_points) < _RESEED:
            self._seed()
        state.since_search += 1
        if state.box is None:
            self._search(luma)
        elif not flowed or state.since_search >= DETECT_EVERY:
            self._search_near(luma, trusted=flowed)
        if state.box is None:
            return Tracked(None, cut)
        confidence = 1.0 - state.misses / (MISSES + 1)
        return Tracked(TrackedFace(state.points.copy(), confidence), cut)

    def _is_cut(self, luma: U8) -> bool:
        state = self.state
        if state.thumbnail is None or state.size != (luma.shape[0], luma.shape[1]):
            return True
        return float(np.abs(_thumbnail(luma) - state.thumbnail).mean()) > _CUT

    def _search(self, luma: U8) -> None:
        state = self.state
        if state.since_search < SEARCH_EVERY:
            return
        state.since_search = 0
        face = self._detector.find(luma)
        if face is not None:
            self._take(face, 1.0)

    def _search_near(self, luma: U8, *, trusted: bool) -> None:
        state = self.state
        assert state.box is not None
        state.since_search = 0
        face = self._detector.find(luma, state.box)
        if face is None:
            state.misses += 1
            if not trusted or state.misses > MISSES:
                state.box = None
                state.since_search = SEARCH_EVERY  # a full search at the next picture
            return
        off = float(np.abs(face.points - state.points).max()) / state.box.size
        if off > _FAR:
            share = 1.0
        elif trusted:
            share = _PULL if face.sure else _PULL_UNSURE
        else:
            share = _PULL_ALONE
        self._take(face, share)

    def _take(self, face: DetectedFace, share: float) -> None:
        state = self.state
        state.misses = 0
        old = state.box
        if old is None or share >= 1.0:
            state.box, state.points = face.box, face.points
        else:
            new = face.box
            state.box = FaceBox(
                old.left + share * (new.left - old.left),
                old.top + share * (new.top - old.top),
                old.size + share * (new.size - old.size),
            )
            state.points = (state.points + share * (face.points - state.points)).astype(np.float32)
        self._seed()

    def _seed(self) -> None:
        """Chooses fresh flow points on the upper half of the face."""
        state = self.state
        assert state.luma is not None and state.box is not None
        box, scale = state.box, state.scale
        mask = np.zeros_like(state.luma)
        top, bottom = box.top, box.top + 0.64 * box.size
        left, right = box.left + 0.08 * box.size, box.left + 0.92 * box.size
        mask[
            max(int(top * scale), 0) : max(int(bottom * scale), 0),
            max(int(left * scale), 0) : max(int(right * scale), 0),
        ] = 255
        found = cv2.goodFeaturesToTrack(
            state.luma, _FLOW_POINTS, 0.004, max(box.size * scale / 24, 3.0), mask=mask
        )
        state.flow_points = (
            np.zeros((0, 1, 2), np.float32) if found is None else np.asarray(found, np.float32)
        )

    def _flow(self, small: U8) -> bool:
        """Moves the face with the flow since the last picture; False: it can't be trusted."""
        state = self.state
        assert state.luma is not None and state.box is not None
        if len(state.flow_points) < _FEWEST:
            return False
        moved, status, _ = cv2.calcOpticalFlowPyrLK(
            state.luma,
            small,
            state.flow_points,
            np.zeros_like(state.flow_points),
            winSize=(17, 17),
            maxLevel=3,
        )
        kept = status.ravel() == 1
        before, after = state.flow_points[kept], np.asarray(moved, np.float32)[kept]
        if len(before) < _FEWEST:
            return False
        motion, inliers = cv2.estimateAffinePartial2D(
            before, after, method=cv2.RANSAC, ransacReprojThreshold=1.0
        )
        if motion is None or int(inliers.sum()) < max(_FEWEST, len(before) // 3):
            return False
        growth = float(np.hypot(motion[0, 0], motion[1, 0]))
        if not 0.8 < growth < 1.25:
            return False
        rotation, shift = motion[:, :2], motion[:, 2] / state.scale
        state.points = (state.points @ rotation.T + shift).astype(np.float32)
        box = state.box
        x, y = np.array(box.centre) @ rotation.T + shift
        size = box.size * growth
        state.box = FaceBox(float(x) - size / 2, float(y) - size / 2, size)
        state.flow_points = after[inliers.ravel() == 1]
        return True


def _thumbnail(luma: U8) -> F32:
    return np.asarray(cv2.resize(luma, _THUMBNAIL, interpolation=cv2.INTER_AREA), np.float32)
