"""A camera or a video as a stream's source: its pictures on the grid of 25 a second."""

from __future__ import annotations

from collections import deque

from engine.errors import StreamError
from engine.face.align import SmoothingState, align_affine
from engine.face.paste_back import square_affine
from engine.face.track import FaceTracker
from engine.media import FRAME_SAMPLES, Picture
from engine.pipeline import SourceFrame
from engine.spec import ModelSpec

QUEUE_PICTURES = 64  # that may wait for their sound


class CameraSource:
    """Pictures as they come, each frame showing the one nearest to its start.

    Args:
        spec: of the model that will be run.
        tracker: this session's own.
        realtime: frames do not wait for pictures, and of too many the oldest are dropped;
            otherwise frames wait for theirs, and too many are an error.
    """

    rests_in_silence = False

    def __init__(self, spec: ModelSpec, tracker: FaceTracker, *, realtime: bool) -> None:
        self._spec = spec
        self._tracker = tracker
        # The published weights were trained with LatentSync's smoothing; others see plain crops.
        self._smoothing = SmoothingState() if spec.face.paste == "latentsync" else None
        self._realtime = realtime
        self._ended = False
        self._waiting: deque[tuple[int, Picture]] = deque()
        self._shown: SourceFrame | None = None
        self._first: int | None = None
        self._last_pts = -1

    def start_frame(self) -> int | None:
        return self._first

    def ready(self, frames: range) -> bool:
        return (
            self._realtime or self._ended or self._last_pts >= frames[-1] * FRAME_SAMPLES
        ) and self._first is not None

    def push(self, picture: Picture, pts_samples: int) -> None:
        """Takes the next picture; one that is older than the last is ignored.

        Raises:
            StreamError: more than QUEUE_PICTURES wait and no real time allows to drop one.
        """
        if pts_samples <= self._last_pts:
            return
        if len(self._waiting) == QUEUE_PICTURES:
            if not self._realtime:
                raise StreamError(f"expected at most {QUEUE_PICTURES} pictures to wait")
            self._waiting.popleft()
        if self._first is None:
            self._first = max(pts_samples, 0) // FRAME_SAMPLES
        self._last_pts = pts_samples
        self._waiting.append((pts_samples, picture))

    def end(self) -> None:
        self._ended = True

    def take(self, frames: range) -> list[SourceFrame]:
        return [self._take(frame) for frame in frames]

    def _take(self, frame: int) -> SourceFrame:
        """The frame nearest to its start; the last one again where none is new."""
        latest = frame * FRAME_SAMPLES + FRAME_SAMPLES // 2
        chosen: Picture | None = None
        while self._waiting and (
            self._waiting[0][0] < latest or (self._shown is None and chosen is None)
        ):
            chosen = self._waiting.popleft()[1]
        if chosen is not None:
            self._shown = self._track(chosen)
            return self._shown
        assert self._shown is not None  # `start_frame` came with the first picture
        # Shown again, it continues itself.
        return SourceFrame(self._shown.picture, self._shown.affine, closed=self._shown.closed)

    def _track(self, picture: Picture) -> SourceFrame:
        tracked = self._tracker.update(picture)
        cut = tracked.cut or tracked.stranger
        if self._smoothing is not None and (cut or tracked.face is None):
            self._smoothing.reset()
        if tracked.face is None:
            return SourceFrame(picture, None, cut=cut, closed=tracked.closed)
        affine = align_affine(tracked.face.points, self._spec.face, self._smoothing)
        square = square_affine(affine, self._spec.face, self._spec.resolution)
        return SourceFrame(picture, square, cut=cut, closed=tracked.closed)
