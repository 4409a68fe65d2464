"""Whether a face is the one that was enrolled: by its place and by its looks.

Looks are compared on a view of 72 x 40 units: that tells most people apart and takes some for
each other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from engine.errors import VideoFormatError
from engine.face.detect import DetectedFace, FaceBox
from engine.face.turn import TurnState, same_person
from engine.face.view import face_view
from engine.media import F32, Picture

FORGET: Final = 50  # pictures after which a lost face is given up for another one
_KNOWN: Final = 0.84  # likeness from which a face that comes back is the one that left
_BACK_AT_ONCE: Final = 12  # pictures within which its place is enough, if looks allow it
_POSSIBLE: Final = 0.5  # likeness below which it is not the same face in any light
_STRANGER: Final = 0.22  # likeness lost against the usual: somebody else is being followed
_STRANGE_SEARCHES: Final = 3  # in a row close the gate: one or two are a blink
_STRANGER_SEARCHES: Final = 5  # and so many end it
_USUAL_RATE: Final = 0.1


@dataclass(slots=True)
class EnrolledState:
    """What is known of the enrolled face beside its looks.

    Attributes:
        known: somebody's face is known.
        away: pictures since it was lost.
        last_box: where it was before.
        usual: its likeness to itself.
        strange: searches in a row that found it far below.
        guessed: it came back to its place, and its looks have not confirmed it yet.
    """

    known: bool = False
    away: int = 0
    last_box: FaceBox | None = None
    usual: float = 1.0
    strange: int = 0
    guessed: bool = False

    @property
    def doubtful(self) -> bool:
        """Whether what is followed has looked like somebody else for longer than a blink."""
        return self.strange >= _STRANGE_SEARCHES

    @property
    def replaceable(self) -> bool:
        """Whether another face may be enrolled."""
        return not self.known or self.away >= FORGET


def likeness_at(picture: Picture, points: F32, turn: TurnState) -> float:
    """Likeness of what lies at these points to the enrolled face; 0.0 where no face can."""
    try:
        view = face_view(picture, points)
    except VideoFormatError:  # points that fell together
        return 0.0
    return same_person(turn, view)


def returned(
    state: EnrolledState, turn: TurnState, picture: Picture, faces: Sequence[DetectedFace]
) -> DetectedFace | None:
    """Of faces in the whole picture the one that was followed before."""
    if not state.known:
        return None
    best, most, guessed = None, 0.0, False
    for face in faces:
        alike = likeness_at(picture, face.points, turn)
        near = state.last_box is not None and state.last_box.distance(face.box) < 0.5
        by_place = near and state.away <= _BACK_AT_ONCE
        if alike >= max(_POSSIBLE if by_place else _KNOWN, most):
            best, most, guessed = face, alike, alike < _KNOWN
    state.guessed = guessed
    return best


def nearest(
    box: FaceBox, turn: TurnState, picture: Picture, faces: Sequence[DetectedFace]
) -> DetectedFace | None:
    """Of faces near the last place the one that continues it, by place and looks."""
    if len(faces) <= 1:
        return faces[0] if faces else None

    def unlike(face: DetectedFace) -> float:
        return box.distance(face.box) - likeness_at(picture, face.points, turn)

    return min(faces, key=unlike)


def compare_with_usual(state: EnrolledState, alike: float) -> bool:
    """Whether a search that found this likeness ends the enrolment: it is somebody else."""
    if alike < (_KNOWN if state.guessed else state.usual - _STRANGER):
        state.strange += 1
        return state.strange >= _STRANGER_SEARCHES
    state.strange, state.guessed = 0, False
    state.usual += _USUAL_RATE * (alike - state.usual)
    return False


def leave(state: EnrolledState, box: FaceBox, *, replaced: bool = False) -> None:
    """Notes that the face was lost.

    Args:
        replaced: somebody else is in its place; look for it briefly, then enrol who is there.
    """
    state.last_box = None if replaced else box
    state.away = FORGET - _BACK_AT_ONCE if replaced else 0
