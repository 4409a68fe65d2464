"""Why the mouth of a followed face must not be generated, if so."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

import numpy as np

from engine.face.occlusion import OcclusionState, judge_cover
from engine.gate import FaceClosed
from engine.media import F32

MISSED_LIMIT: Final = 32  # pictures without a face where it should be: it is lost
PROFILE_CLOSE: Final = np.radians(35.0)
PROFILE_OPEN: Final = np.radians(28.0)
_PROFILE_MISSED: Final = np.radians(22.0)  # closes where the detector sees no frontal face
_COVER_TURN: Final = np.radians(30.0)  # beyond, the lower face is not judged


@dataclass(slots=True)
class VerdictState:
    """What the verdict on one picture leaves for the next.

    Attributes:
        turned: away from the camera, with its hysteresis.
        slipped: the points came through such a turn and wait for a detection.
    """

    turned: bool = False
    slipped: bool = False
    cover: OcclusionState = field(default_factory=OcclusionState)


def judge_mouth(
    state: VerdictState, view: F32 | None, yaw: float, missed: int, *, doubtful: bool
) -> FaceClosed | None:
    """Why this face's mouth must not be generated; None: it may.

    Args:
        view: `engine.face.view.face_view` of the face; None: its points fell together.
        yaw: radians that it is turned.
        missed: pictures without a face where it should be.
        doubtful: it may be somebody else's.
    """
    turn = abs(yaw)
    if state.turned:
        state.turned = turn > PROFILE_OPEN or missed > 0
    else:
        state.turned = turn > PROFILE_CLOSE or (turn > _PROFILE_MISSED and missed > 0)
    if state.turned:
        state.slipped = True
        return "profile"
    if missed > MISSED_LIMIT // 2 or doubtful:
        return "no_face"
    if view is not None and turn < _COVER_TURN and not state.slipped:
        judge_cover(state.cover, view, turn)
    return "occluded" if state.cover.covered else None
