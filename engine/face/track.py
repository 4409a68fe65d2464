"""One face followed through a session's pictures, and whether its mouth can be seen.

A detector looks at a picture now and then; in between, the face moves with
the optical flow of its upper half (the mouth below moves on its own). Flow is
smooth to a fraction of a pixel, detection is not but does not drift, so each
detection pulls the flow's points a little.

Of several faces the one that was enrolled is followed: searches look near it
only, and where they find two, place and looks decide. Somebody else is
enrolled when it has been away for FORGET pictures.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import cv2
import numpy as np

from engine.errors import VideoFormatError
from engine.face.budget import BudgetShare, DetectorBudget
from engine.face.detect import DetectedFace, FaceBox, FaceDetector
from engine.face.occlusion import OcclusionState, judge_cover
from engine.face.turn import TurnState, follow_turn, judge_turn, registered, same_person
from engine.face.view import UNIT_BROWS, face_view, view_affine
from engine.gate import FaceClosed
from engine.media import F32, U8, Picture

DETECT_EVERY: Final = 8  # pictures between two searches near the face
DOUBT_EVERY: Final = 3  # the same while something is wrong with it
SEARCH_EVERY: Final = 6  # pictures between two full searches while there is no face
MISSED_LIMIT: Final = 32  # pictures without a face where it should be: it is lost
TURNED_LIMIT: Final = 100  # the same while it is turned away
FORGET: Final = 50  # pictures after which a lost face is given up for another one
PROFILE_CLOSE: Final = np.radians(35.0)
PROFILE_OPEN: Final = np.radians(28.0)
_PROFILE_MISSED: Final = np.radians(22.0)  # closes where the detector sees no frontal face
_DOUBT: Final = np.radians(18.0)
_COVER_TURN: Final = np.radians(30.0)  # beyond, the lower face is not judged

_KNOWN: Final = 0.84  # likeness from which a face that comes back is the one that left
_BACK_AT_ONCE: Final = 12  # pictures within which its place alone is enough
_ASTRAY: Final = 0.75  # likeness below which the points have slipped
_SLIPPED: Final = 0.05  # likeness lost while no mouth is shown that could jump
_STRANGER: Final = 0.15  # likeness lost against the usual: somebody else is being followed
_STRANGE_SEARCHES: Final = 3  # in a row close the gate: one or two are a blink
_STRANGER_SEARCHES: Final = 5  # and so many end it
_USUAL_RATE: Final = 0.1

_FLOW_HEIGHT: Final = 360  # flow runs on pictures of at most this height
_FLOW_POINTS: Final = 60
_RESEED: Final = 30  # flow points below which new ones are chosen
_OWN_MOTION: Final = 3.0  # pixels: what moves further against the head is a hand before it
_FEWEST: Final = 8  # flow points below which the movement is not trusted
_PULL: Final = 0.12  # share of a detection's difference that moves the points at once
_PULL_UNSURE: Final = 0.02  # the same for points that were not measured (a blink, glasses)
_PULL_ALONE: Final = 0.4  # the same where the flow failed
_FAR: Final = 0.12  # a detection this far off (in box sides) is believed at once
_NEAR: Final = 0.04  # off by less it needs no second look
_WORSE: Final = 0.05  # likeness that a detection may cost
_REGISTER: Final = 0.4  # of the way to where a face looks right
_CUT: Final = 28.0  # mean luma difference of two thumbnails: another scene
_CUT_UNFOLLOWED: Final = 12.0  # the same where the flow lost the face
_THUMBNAIL: Final = (32, 24)


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


@dataclass(slots=True)
class TrackState:
    """Everything that following one face changes.

    Attributes:
        luma: the last picture, scaled by `scale`.
        flow_points: float32 [n, 1, 2] on that picture.
        box, points: the face in the picture's own pixels.
        last_box: where it was before it was lost.
        since_search: pictures since the detector last looked.
        missed: pictures without a face where it should be, as far as the detector looked.
        part: of a full search, to be done next.
        searched: the scene has been searched in full.
        away: pictures since the face was lost.
        enrolled: somebody's face is known.
        turned: away from the camera, with its hysteresis.
        slipped: the points came through such a turn and wait for a detection.
        usual: likeness of the face to itself; strange: searches that found it far below.
    """

    luma: U8 | None = None
    thumbnail: F32 | None = None
    size: tuple[int, ...] = ()
    scale: float = 1.0
    flow_points: F32 = field(default_factory=lambda: np.zeros((0, 1, 2), np.float32))
    box: FaceBox | None = None
    points: F32 = field(default_factory=lambda: np.zeros((3, 2), np.float32))
    last_box: FaceBox | None = None
    since_search: int = SEARCH_EVERY
    missed: int = 0
    part: int = 0
    searched: bool = False
    away: int = 0
    enrolled: bool = False
    turned: bool = False
    slipped: bool = False
    turn: TurnState = field(default_factory=TurnState)
    cover: OcclusionState = field(default_factory=OcclusionState)
    usual: float = 1.0
    strange: int = 0


class FaceTracker:
    """Follows one face.

    Args:
        detector: may be shared by sessions of one thread.
        budget: of all sessions that share an engine; None: this session's own, without a limit.
    """

    def __init__(self, detector: FaceDetector, budget: DetectorBudget | None = None) -> None:
        self.state = TrackState()
        self._detector = detector
        self._share: BudgetShare | None = None if budget is None else budget.join()

    def reset(self) -> None:
        """Forgets the face and the picture before."""
        self.state = TrackState()

    def update(self, picture: Picture) -> Tracked:
        """The face in the next picture."""
        luma = picture.luma
        if self._share is not None:
            self._share.picture()
        scale = min(_FLOW_HEIGHT / luma.shape[0], 1.0)
        small = luma
        if scale < 1.0:
            shrunk = cv2.resize(luma, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
            small = np.asarray(shrunk, np.uint8)
        thumbnail = np.asarray(
            cv2.resize(luma, _THUMBNAIL, interpolation=cv2.INTER_AREA), np.float32
        )
        change = self._change(luma, thumbnail)
        followed = self.state.box is not None
        flowed = followed and change <= _CUT and self._flow(small)
        cut = change > (_CUT if flowed or not followed else _CUT_UNFOLLOWED)
        if cut:
            self.reset()
        state = self.state
        state.size, state.thumbnail, state.scale = luma.shape, thumbnail, scale
        state.luma = small
        if flowed and len(state.flow_points) < _RESEED:
            self._seed()
        state.since_search += 1
        stranger = False
        if state.box is None:
            state.away += 1
            stranger = self._search(picture)
        elif not flowed or state.since_search >= self._interval():
            self._search_near(picture, trusted=flowed)
        if state.box is None:
            return Tracked(None, cut, "no_face" if state.searched else "cut")
        confidence = max(1.0 - state.missed / MISSED_LIMIT, 0.0)
        face = TrackedFace(state.points.copy(), confidence, state.turn.yaw)
        return Tracked(face, cut, self._closed(picture), stranger)

    def _change(self, luma: U8, thumbnail: F32) -> float:
        """Mean difference to the picture before, in levels; infinite if there is none."""
        state = self.state
        if state.thumbnail is None or state.size != luma.shape:
            return float("inf")
        return float(np.abs(thumbnail - state.thumbnail).mean())

    def _closed(self, picture: Picture) -> FaceClosed | None:
        """Why this face's mouth must not be generated."""
        state = self.state
        yaw = abs(state.turn.yaw)
        if state.turned:
            state.turned = yaw > PROFILE_OPEN or state.missed > 0
        else:
            state.turned = yaw > PROFILE_CLOSE or (yaw > _PROFILE_MISSED and state.missed > 0)
        if state.turned:
            state.slipped = True
            return "profile"
        if state.missed > MISSED_LIMIT // 2 or state.strange >= _STRANGE_SEARCHES:
            return "no_face"
        if yaw < _COVER_TURN and not state.slipped:
            view = self._view(picture, state.points)
            if view is not None:
                judge_cover(state.cover, view, yaw)
        return "occluded" if state.cover.covered else None

    def _interval(self) -> int:
        state = self.state
        doubt = (
            state.turned
            or state.slipped
            or state.cover.covered
            or state.missed > 0
            or state.strange > 0
            or not state.turn.settled
            or abs(state.turn.yaw) > _DOUBT
        )
        return DOUBT_EVERY if doubt else DETECT_EVERY

    def _may_search(self, picture: Picture, part: int | None) -> bool:
        return self._share is None or self._share.take(self._detector.cost(picture, part))

    def _search(self, picture: Picture) -> bool:
        """Does a part of a full search; whether it found somebody else than before."""
        state = self.state
        if state.part == 0 and state.since_search < SEARCH_EVERY:
            return False
        if not self._may_search(picture, state.part):
            return False
        if state.part == 0:
            state.since_search = 0
        faces = self._detector.search(picture, state.part)
        state.part = (state.part + 1) % self._detector.parts
        state.searched = state.searched or state.part == 0
        known = self._known(picture, faces)
        face, stranger = known, False
        if known is None and faces and (not state.enrolled or state.away >= FORGET):
            face, stranger = faces[0], state.enrolled
            state.turn.reset()
            state.cover.reset()
            state.usual = 1.0
        if face is None:
            return False
        state.part, state.searched, state.enrolled, state.away = 0, True, True, 0
        state.turned = state.slipped = False
        state.strange, state.turn.yaw = 0, 0.0
        state.since_search = 0
        self._take(face, 1.0)
        self._judge_turn(picture, face)
        return stranger

    def _known(self, picture: Picture, faces: Sequence[DetectedFace]) -> DetectedFace | None:
        """Of faces in the whole picture the one that was followed before."""
        state = self.state
        if not state.enrolled:
            return None
        best, most = None, _KNOWN
        for face in faces:
            alike = self._likeness(picture, face)
            near = state.last_box is not None and state.last_box.distance(face.box) < 0.5
            if near and state.away <= _BACK_AT_ONCE:
                alike = max(alike, _KNOWN)
            if alike >= most:
                best, most = face, alike
        return best

    def _search_near(self, picture: Picture, *, trusted: bool) -> None:
        state = self.state
        assert state.box is not None
        if not self._may_search(picture, None):
            if not trusted:
                self._lose()
            return
        face = self._nearest(picture, self._detector.search_near(picture, state.box))
        if face is None:
            state.missed += state.since_search
            limit = TURNED_LIMIT if state.turned else MISSED_LIMIT
            state.since_search = 0
            if not trusted or state.missed >= limit:
                self._lose()
            else:
                self._judge_turn(picture, None)
            return
        state.since_search = 0
        off = float(np.abs(face.points - state.points).max()) / state.box.size
        back = state.slipped and not state.turned and abs(state.turn.yaw) < _DOUBT
        if trusted and state.turned:  # detectors of frontal faces see a turned one askew
            share = _PULL_UNSURE
        elif trusted and off > _NEAR and not self._looks_better(picture, face):
            share = 0.0
        elif off > _FAR or (back and face.sure):  # hardly a mouth that could jump
            share = 1.0
        elif trusted and (
            (face.sure and state.turn.alike < _ASTRAY)
            or (state.cover.covered and state.turn.alike < state.usual - _SLIPPED)
        ):
            share = _PULL_ALONE
        elif trusted:
            share = _PULL if face.sure else _PULL_UNSURE
        else:
            share = _PULL_ALONE
        self._take(face, share)
        state.slipped = state.slipped and not back
        self._judge_turn(picture, face)

    def _looks_better(self, picture: Picture, face: DetectedFace) -> bool:
        """Whether a detection is more like the known face than the place that flow gives it."""
        state = self.state
        if not state.turn.settled:
            return True
        view = self._view(picture, state.points)
        flowed = 0.0 if view is None else same_person(state.turn, view)
        return self._likeness(picture, face) > flowed - _WORSE

    def _nearest(self, picture: Picture, faces: Sequence[DetectedFace]) -> DetectedFace | None:
        """Of faces near the last place the one that continues it, by place and looks."""
        state = self.state
        assert state.box is not None
        box = state.box
        if len(faces) == 0:
            return None
        if len(faces) == 1:
            return faces[0]

        def unlike(face: DetectedFace) -> float:
            return box.distance(face.box) - self._likeness(picture, face)

        return min(faces, key=unlike)

    def _lose(self) -> None:
        state = self.state
        state.last_box, state.box = state.box, None
        state.since_search = SEARCH_EVERY  # a full search at the next picture
        state.part, state.away, state.missed = 0, 0, 0

    def _judge_turn(self, picture: Picture, face: DetectedFace | None) -> None:
        """Holds the turn against the face's looks, and the looks against the usual."""
        state = self.state
        view = self._view(picture, state.points)
        if view is None:
            return
        judge_turn(state.turn, view, frontal=face is not None and face.yaw is None)
        self._register(view)
        if face is not None and face.yaw is not None:
            state.turn.yaw = face.yaw
        settled = face is not None and face.sure and state.turn.settled
        if not settled or state.cover.covered or abs(state.turn.yaw) > _DOUBT:
            return
        alike = state.turn.alike
        if alike < state.usual - _STRANGER:
            state.strange += 1
            if state.strange >= _STRANGER_SEARCHES:
                self._lose()
                # Somebody else is in its place: look for it briefly, then enrol who is there.
                state.last_box, state.away = None, FORGET - _BACK_AT_ONCE
            return
        state.strange = 0
        state.usual += _USUAL_RATE * (alike - state.usual)

    def _register(self, view: F32) -> None:
        """Moves points that have slipped part of the way to where the face looks right."""
        state = self.state
        off = registered(state.turn, view)
        if off is None:
            return
        assert state.box is not None
        affine = view_affine(state.points).astype(np.float64)
        shown = state.points @ affine[:, :2].T + affine[:, 2]
        back = np.asarray(cv2.invertAffineTransform(affine))
        right = (shown @ off[:, :2].T + off[:, 2]) @ back[:, :2].T + back[:, 2]
        state.points = (state.points + _REGISTER * (right - state.points)).astype(np.float32)

    def _likeness(self, picture: Picture, face: DetectedFace) -> float:
        view = self._view(picture, face.points)
        return 0.0 if view is None else same_person(self.state.turn, view)

    def _view(self, picture: Picture, points: F32) -> F32 | None:
        try:
            return face_view(picture, points)
        except VideoFormatError:  # points that fell together
            return None

    def _take(self, face: DetectedFace, share: float) -> None:
        state = self.state
        state.missed = 0
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
        top, bottom = box.top, box.top + 0.64 * box.size
        left, right = box.left + 0.08 * box.size, box.left + 0.92 * box.size
        y, x = max(int(top * scale), 0), max(int(left * scale), 0)
        part = state.luma[y : max(int(bottom * scale), 0), x : max(int(right * scale), 0)]
        found = None
        if min(part.shape) > 8:
            found = cv2.goodFeaturesToTrack(
                part, _FLOW_POINTS, 0.004, max(box.size * scale / 24, 3.0)
            )
        if found is None:
            state.flow_points = np.zeros((0, 1, 2), np.float32)
            return
        state.flow_points = np.asarray(found, np.float32) + np.array([x, y], np.float32)

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
        brows = state.points[:2] * state.scale
        unit = float(np.hypot(*(brows[1] - brows[0]))) / UNIT_BROWS
        if unit > 0.1:
            middle = brows.mean(axis=0).astype(np.float64)
            expected = before[:, 0] @ motion[:, :2].T + motion[:, 2]
            own = np.hypot(*(after[:, 0] - expected).T) < _OWN_MOTION
            follow_turn(state.turn, before[own, 0], after[own, 0], middle, unit)
        rotation, shift = motion[:, :2], motion[:, 2] / state.scale
        state.points = (state.points @ rotation.T + shift).astype(np.float32)
        box = state.box
        x, y = np.array(box.centre) @ rotation.T + shift
        size = box.size * growth
        state.box = FaceBox(float(x) - size / 2, float(y) - size / 2, size)
        state.flow_points = after[inliers.ravel() == 1]
        return True
