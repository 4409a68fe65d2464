"""One face followed through a session's pictures, and whether its mouth can be seen.

A detector looks at a picture now and then; in between, the face moves with its optical flow.
Flow is smooth but drifts, detection does not drift but jumps a little, so each detection pulls
the flow's points a little.

Of several faces the one that was enrolled is followed: searches look near it only, and where
they find two, place and looks decide. Somebody else is enrolled when it has been away for
FORGET pictures.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

import numpy as np

from engine.errors import VideoFormatError
from engine.face import enrolled, flow
from engine.face.budget import BudgetShare, DetectorBudget
from engine.face.cut import CUT, SceneState, is_cut, scene_change
from engine.face.detect import DetectedFace, FaceBox, FaceDetector
from engine.face.enrolled import EnrolledState, likeness_at
from engine.face.flow import FlowState
from engine.face.register import registered_points
from engine.face.tracked import Tracked, TrackedFace
from engine.face.turn import TurnState, follow_turn, judge_turn
from engine.face.verdict import MISSED_LIMIT, VerdictState, judge_mouth
from engine.face.view import UNIT_BROWS, face_view
from engine.gate import FaceClosed
from engine.media import F32, U8, Picture

DETECT_EVERY: Final = 8  # pictures between two searches near the face
DOUBT_EVERY: Final = 3  # the same while something is wrong with it
SEARCH_EVERY: Final = 6  # pictures between two full searches while there is no face
TURNED_LIMIT: Final = 100  # pictures without a face where a turned one should be: it is lost
_DOUBT: Final = np.radians(18.0)

_ASTRAY: Final = 0.75  # likeness below which the points have slipped
_NO_FACE: Final = 0.3  # likeness below which it is not the face, whatever the light; nor a blink
_SLIPPED: Final = 0.05  # likeness lost while no mouth is shown that could jump
_PULL: Final = 0.12  # share of a detection's difference that moves the points at once
_PULL_UNSURE: Final = 0.02  # the same for points that were not measured (a blink, glasses)
_PULL_ALONE: Final = 0.4  # the same where the flow failed
_FAR: Final = 0.12  # a detection this far off (in box sides) is believed at once
_NEAR: Final = 0.04  # off by less it needs no second look
_WORSE: Final = 0.05  # likeness that a detection may cost


@dataclass(slots=True)
class TrackState:
    """Everything that following one face changes.

    Attributes:
        box, points: the face in the picture's own pixels; no box: it is lost.
        since_search: pictures since the detector last looked.
        missed: pictures without a face where it should be, as far as the detector looked.
        part: of a full search, to be done next.
        searched: the scene has been searched in full.
    """

    box: FaceBox | None = None
    points: F32 = field(default_factory=lambda: np.zeros((3, 2), np.float32))
    since_search: int = SEARCH_EVERY
    missed: int = 0
    part: int = 0
    searched: bool = False
    scene: SceneState = field(default_factory=SceneState)
    flow: FlowState = field(default_factory=FlowState)
    turn: TurnState = field(default_factory=TurnState)
    enrolled: EnrolledState = field(default_factory=EnrolledState)
    verdict: VerdictState = field(default_factory=VerdictState)


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
        change = scene_change(self.state.scene, luma)
        followed = self.state.box is not None
        flowed = followed and change <= CUT and self._flow(luma)
        cut = is_cut(change, lost=followed and not flowed)
        if cut:
            self.state = TrackState(scene=self.state.scene)
        state = self.state
        if not flowed:
            flow.show(state.flow, luma)
        elif flow.sparse(state.flow) and state.box is not None:
            flow.seed(state.flow, state.box)
        state.since_search += 1
        stranger = False
        if state.box is None:
            state.enrolled.away += 1
            stranger = self._search(picture)
        elif not flowed or state.since_search >= self._interval():
            self._search_near(picture, trusted=flowed)
        if state.box is None:
            return Tracked(None, cut, "no_face" if state.searched else "cut")
        confidence = max(1.0 - state.missed / MISSED_LIMIT, 0.0)
        face = TrackedFace(state.points.copy(), confidence, state.turn.yaw)
        return Tracked(face, cut, self._closed(picture), stranger)

    def _flow(self, luma: U8) -> bool:
        """Moves the face with the flow since the last picture; False: it can't be trusted."""
        state = self.state
        assert state.box is not None
        movement = flow.follow(state.flow, luma)
        if movement is None:
            return False
        brows = state.points[:2]
        unit = float(np.hypot(*(brows[1] - brows[0]))) / UNIT_BROWS
        if unit > 0.1:
            middle = brows.mean(axis=0).astype(np.float64)
            follow_turn(state.turn, movement.before, movement.after, middle, unit)
        state.points = movement.moved(state.points)
        state.box = movement.moved_box(state.box)
        return True

    def _closed(self, picture: Picture) -> FaceClosed | None:
        state = self.state
        return judge_mouth(
            state.verdict,
            _view(picture, state.points),
            state.turn.yaw,
            state.missed,
            doubtful=state.enrolled.doubtful,
        )

    def _interval(self) -> int:
        state = self.state
        verdict = state.verdict
        doubt = (
            verdict.turned
            or verdict.slipped
            or verdict.cover.covered
            or state.missed > 0
            or state.enrolled.strange > 0
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
        face, stranger = enrolled.returned(state.enrolled, state.turn, picture, faces), False
        if face is None and faces and state.enrolled.replaceable:
            face, stranger = faces[0], state.enrolled.known
            state.turn.reset()
            state.verdict.cover.reset()
            state.enrolled.usual = 1.0
        if face is None:
            return False
        state.part, state.searched, state.since_search = 0, True, 0
        state.enrolled.known, state.enrolled.away, state.enrolled.strange = True, 0, 0
        state.verdict.turned = state.verdict.slipped = False
        self._take(face, 1.0)
        self._judge_turn(picture, face)
        return stranger

    def _search_near(self, picture: Picture, *, trusted: bool) -> None:
        state = self.state
        assert state.box is not None
        if not self._may_search(picture, None):
            if not trusted:
                self._lose()
            return
        found = self._detector.search_near(picture, state.box)
        face = enrolled.nearest(state.box, state.turn, picture, found)
        if face is None:
            state.missed += state.since_search
            limit = TURNED_LIMIT if state.verdict.turned else MISSED_LIMIT
            state.since_search = 0
            if not trusted or state.missed >= limit:
                self._lose()
            else:
                self._judge_turn(picture, None)
            return
        state.since_search = 0
        slipped = state.verdict.slipped
        back = slipped and not state.verdict.turned and abs(state.turn.yaw) < _DOUBT
        self._take(face, self._pull(picture, face, trusted=trusted, back=back))
        state.verdict.slipped = slipped and not back
        self._judge_turn(picture, face)

    def _pull(self, picture: Picture, face: DetectedFace, *, trusted: bool, back: bool) -> float:
        """Share of the way to a detection that the points go at once.

        Args:
            trusted: the flow brought them where they are.
            back: they came through a turn that has just ended.
        """
        state = self.state
        assert state.box is not None
        off = float(np.abs(face.points - state.points).max()) / state.box.size
        if trusted and state.verdict.turned:
            return _PULL_UNSURE  # detectors of frontal faces see a turned one askew
        if trusted and off > _NEAR and not self._looks_better(picture, face):
            return 0.0
        if off > _FAR or (back and face.sure):  # hardly a mouth that could jump
            return 1.0
        if not trusted:
            return _PULL_ALONE
        alike = state.turn.alike
        covered = state.verdict.cover.covered
        if face.sure and alike < _ASTRAY:
            return _PULL_ALONE
        if covered and alike < state.enrolled.usual - _SLIPPED:
            return _PULL_ALONE
        return _PULL if face.sure else _PULL_UNSURE

    def _looks_better(self, picture: Picture, face: DetectedFace) -> bool:
        """Whether a detection is more like the known face than the place that flow gives it."""
        state = self.state
        if not state.turn.settled:
            return True
        flowed = likeness_at(picture, state.points, state.turn)
        return likeness_at(picture, face.points, state.turn) > flowed - _WORSE

    def _judge_turn(self, picture: Picture, face: DetectedFace | None) -> None:
        """Holds the turn against the face's looks, and the looks against the usual."""
        state = self.state
        if (view := _view(picture, state.points)) is None:
            return
        frontal = face is not None and face.yaw is None
        judge_turn(state.turn, view, frontal=frontal, learn=not state.enrolled.guessed)
        state.points = registered_points(state.turn, view, state.points)
        if face is not None and face.yaw is not None:
            state.turn.yaw = face.yaw
        # What looks like no face at all is judged without a detection too.
        seen = (face is not None and face.sure) or state.turn.alike < _NO_FACE
        turned = state.verdict.turned or abs(state.turn.yaw) > _DOUBT
        if not seen or not state.turn.settled or state.verdict.cover.covered or turned:
            return
        if enrolled.compare_with_usual(state.enrolled, state.turn.alike):
            self._lose(replaced=True)

    def _lose(self, *, replaced: bool = False) -> None:
        """Gives the face up; `replaced` if somebody else is in its place."""
        state = self.state
        if state.box is not None:
            enrolled.leave(state.enrolled, state.box, replaced=replaced)
        state.box = None
        state.since_search = SEARCH_EVERY  # a full search at the next picture
        state.part, state.missed = 0, 0
        state.turn.yaw = 0.0  # detectors will find it straight

    def _take(self, face: DetectedFace, share: float) -> None:
        state = self.state
        state.missed = 0
        old, new = state.box, face.box
        if old is None or share >= 1.0:
            state.box, state.points = new, face.points
        else:
            state.box = FaceBox(
                old.left + share * (new.left - old.left),
                old.top + share * (new.top - old.top),
                old.size + share * (new.size - old.size),
            )
            state.points = (state.points + share * (face.points - state.points)).astype(np.float32)
        flow.seed(state.flow, state.box)


def _view(picture: Picture, points: F32) -> F32 | None:
    try:
        return face_view(picture, points)
    except VideoFormatError:  # points that fell together
        return None
