"""Sync of clips and of whole videos, by the expert: pictures and sound in, a score out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from engine.face.align import align_affine
from engine.face.paste_back import crop_face, square_affine
from engine.face.tracked import Tracked
from engine.media import F32, FRAME_SAMPLES, U8, Picture
from training.dataset import BUNDLED_FACE, RESOLUTION
from training.sync_inputs import mouth_views, sound_rows
from training.sync_score import SyncScore, distances, sync_score


class Expert(Protocol):
    """`training.sync_network.SyncExpert`."""

    def see(self, views: U8) -> F32:
        """[n - w + 1, D] unit embeddings of windows of w views, of views [n, 32, 32, 3]."""

    def hear(self, rows: F32) -> F32:
        """The same of log-mel rows [2 * n, 40]."""


class Tracker(Protocol):
    """`engine.face.track.FaceTracker`."""

    def update(self, picture: Picture) -> Tracked:
        """The face in the next picture."""


@dataclass(frozen=True, slots=True)
class Span:
    """Consecutive frames of a video in which one mouth can be seen.

    Attributes:
        first: its first frame.
        views: uint8 [n, 32, 32, 3].
    """

    first: int
    views: U8


def video_score(expert: Expert, spans: Iterable[Span], samples: F32) -> SyncScore | None:
    """The score of a video's spans together; None: no mouth was seen for long enough.

    Args:
        samples: 16 kHz, sample 0 at frame 0; what is no whole frame at the end is left out.
    """
    heard = expert.hear(sound_rows(samples[: len(samples) // FRAME_SAMPLES * FRAME_SAMPLES]))
    tables = [distances(expert.see(span.views), heard, first=span.first) for span in spans]
    tables = [table for table in tables if len(table)]
    return sync_score(tables) if tables else None


def mouth_spans(pictures: Iterable[Picture], tracker: Tracker) -> Iterator[Span]:
    """The spans of a video: a cut, another person or a mouth that is hidden ends one."""
    views: list[U8] = []
    for index, picture in enumerate(pictures):
        tracked = tracker.update(picture)
        face = None if tracked.closed is not None else tracked.face
        if views and (face is None or tracked.cut or tracked.stranger):
            yield Span(index - len(views), np.stack(views))
            views = []
        if face is not None:
            views.append(_view(picture, face.points))
    if views:
        yield Span(index + 1 - len(views), np.stack(views))


def _view(picture: Picture, points: F32) -> U8:
    """uint8 [32, 32, 3] of the mouth below three points of a face."""
    affine = square_affine(align_affine(points, BUNDLED_FACE), BUNDLED_FACE, RESOLUTION)
    view: U8 = mouth_views(crop_face(picture, affine, RESOLUTION)[None])[0]
    return view
