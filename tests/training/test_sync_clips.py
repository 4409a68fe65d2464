from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from engine.face.tracked import Tracked, TrackedFace
from engine.media import F32, FRAME_SAMPLES, Picture
from tests.toy_expert import WINDOW, Levels
from training.dataset import BUNDLED_FACE
from training.sync_clips import Span, mouth_spans, video_score

POINTS = np.asarray(BUNDLED_FACE.template, np.float32) + np.asarray((20, 60), np.float32)


class Script:
    """A tracker that says what a test wants."""

    def __init__(self, tracked: Sequence[Tracked]) -> None:
        self._left = iter(tracked)

    def update(self, picture: Picture) -> Tracked:
        return next(self._left)


def face(**more: bool) -> Tracked:
    return Tracked(
        TrackedFace(POINTS, 1.0), more.get("cut", False), None, more.get("stranger", False)
    )


def pictures(levels: F32) -> list[Picture]:
    """Grey pictures of 160 x 240, as bright as they are told."""
    made = []
    for level in levels:
        i420 = np.full((360, 160), 128, np.uint8)
        i420[:240] = int(level)
        made.append(Picture(i420))
    return made


def test_cuts_strangers_and_hidden_mouths_end_a_span() -> None:
    hidden = Tracked(TrackedFace(POINTS, 1.0), False, "profile")
    lost = Tracked(None, False, "no_face")
    told = [
        face(cut=True), face(), hidden, lost, face(), face(), face(cut=True), face(),
        face(stranger=True),
    ]  # fmt: skip
    spans = list(mouth_spans(pictures(np.full(len(told), 90.0)), Script(told)))
    assert [(span.first, len(span.views)) for span in spans] == [(0, 2), (4, 2), (6, 2), (8, 1)]
    assert list(mouth_spans([], Script([]))) == []
    assert list(mouth_spans(pictures(np.full(2, 90.0)), Script([lost, lost]))) == []


def test_the_view_is_of_the_mouth_below_the_points() -> None:
    picture = pictures(np.full(1, 30.0))[0]
    left, top = POINTS[0].astype(int)
    picture.i420[top + 60 : top + 180, left - 10 : left + 120] = 200  # the lower face
    (span,) = mouth_spans([picture], Script([face()]))
    assert span.views.shape == (1, 32, 32, 3) and span.views.mean() > 150


@pytest.mark.parametrize("late", [-4, 0, 6])
def test_a_videos_offset_is_found_over_its_spans(late: int) -> None:
    dice = np.random.default_rng(2)
    opening = np.convolve(dice.uniform(0, 1, 103), np.full(4, 0.25), "valid")
    samples = dice.normal(0, 0.1, 100 * FRAME_SAMPLES) * np.repeat(10 ** (opening - 1), 640)
    shown = np.roll(opening, late)
    told = [
        face() if index not in (40, 41) else Tracked(None, False, "no_face") for index in range(100)
    ]
    spans = list(mouth_spans(pictures(220 - 180 * shown.astype(np.float32)), Script(told)))
    score = video_score(Levels(), spans[::-1], np.append(samples, 0.0).astype(np.float32))
    assert len(spans) == 2 and score is not None and score.offset_frames == late


def test_spans_that_are_too_short_have_no_score() -> None:
    views = np.zeros((WINDOW - 1, 32, 32, 3), np.uint8)
    samples = np.zeros(50 * FRAME_SAMPLES, np.float32)
    assert video_score(Levels(), [Span(0, views)], samples) is None
    assert video_score(Levels(), [], samples) is None
