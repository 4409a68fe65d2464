"""The seam between the engine process and what it runs.

`server.engine_process.streams` is the engine proper; `PassthroughCore` shows the
source pictures without any model, which measures the media path alone and
keeps a machine without a model usable.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from engine.avatar import Avatar, load_avatar, loop_index
from engine.gate import ClosedReason
from engine.media import F32, FRAME_SAMPLES, Picture, RenderedFrame
from server.avatars.library import AvatarLibrary
from server.engine_link.messages import EngineReady, EngineSettings, OpenSession


@dataclass(frozen=True, slots=True)
class SessionFrames:
    """What one step gave one session, in index order without holes.

    Attributes:
        late_hops: hops dropped whole since the last step.
        closed_frames: frames without their generated mouth since then, by reason.
        error: what ended the session's stream; it is closed.
        next_hop_frames: length of its hops from the next one on; None: as before.
        batch: hops that the network computed in the step, of all sessions.
    """

    session: str
    frames: Sequence[RenderedFrame]
    late_hops: int = 0
    closed_frames: Mapping[ClosedReason, int] = field(default_factory=dict)
    error: Exception | None = None
    next_hop_frames: int | None = None
    batch: int = 0


class EngineCore(Protocol):
    """Runs the streams of all sessions. Synchronous; one caller."""

    def describe(self) -> EngineReady:
        """What was loaded, after a warm-up."""

    def changed(self) -> EngineReady | None:
        """What `describe` would say now, where it has changed since it was last told."""

    def stop(self) -> None:
        """Ends what is under way beside the streams."""

    def can_open(self, request: OpenSession) -> bool:
        """Whether a stream starts at once; else what it needs is begun with, ask again later."""

    def open(self, request: OpenSession) -> None:
        """Starts a stream whose first frame has index 0, however long that takes.

        An avatar's clip is at the request's `first_frame` then, as it is wherever it is shown.

        Raises:
            LipwireError: it cannot be started.
        """

    def push_audio(self, session: str, samples: F32, generation: int) -> None:
        """Adds 16 kHz mono sound."""

    def push_video(self, session: str, picture: Picture, pts_samples: int) -> None:
        """Adds a camera picture."""

    def interrupt(self, session: str, generation: int) -> Sequence[RenderedFrame]:
        """Voids older speech; the frames that this finishes."""

    def close(self, session: str) -> None:
        """Ends a stream; unknown names are ignored."""

    def step(self) -> Sequence[SessionFrames]:
        """Runs what is due, at most one batch; empty when nothing is."""

    def prepare(self) -> float | None:
        """Does a little of what sessions wait for; seconds until there is more, None: nothing."""


class PassthroughCore:
    """Gives back the source picture of every frame as its sound arrives."""

    def __init__(self, settings: EngineSettings) -> None:
        self._library = AvatarLibrary(settings.avatar_dirs)
        self._hop_frames = settings.hop_frames or 1
        self._avatars: dict[str, Avatar] = {}
        self._sessions: dict[str, _PassthroughSession] = {}

    def describe(self) -> EngineReady:
        return EngineReady(
            model="none",
            backend="passthrough",
            resolution=0,
            hop_frames=self._hop_frames,
            lookahead_samples=0,
            hop_ms=0.0,
        )

    def changed(self) -> EngineReady | None:
        return None

    def stop(self) -> None:
        """Nothing is under way."""

    def can_open(self, request: OpenSession) -> bool:
        return True

    def prepare(self) -> float | None:
        return None

    def open(self, request: OpenSession) -> None:
        avatar = self._avatar(request.avatar or "") if request.mode == "avatar" else None
        self._sessions[request.session] = _PassthroughSession(avatar, request.first_frame)

    def push_audio(self, session: str, samples: F32, generation: int) -> None:
        self._sessions[session].push_audio(len(samples), generation)

    def push_video(self, session: str, picture: Picture, pts_samples: int) -> None:
        self._sessions[session].pictures.append((pts_samples, picture))

    def interrupt(self, session: str, generation: int) -> Sequence[RenderedFrame]:
        return self._sessions[session].interrupt(generation)

    def close(self, session: str) -> None:
        self._sessions.pop(session, None)

    def _avatar(self, name: str) -> Avatar:
        """An avatar, decoded once: calls that begin in a burst must not hold the others up."""
        if name not in self._avatars:
            self._avatars[name] = load_avatar(self._library.get(name).folder)
        return self._avatars[name]

    def step(self) -> Sequence[SessionFrames]:
        results = []
        for name, session in self._sessions.items():
            frames = session.due(self._hop_frames)
            if frames:
                results.append(SessionFrames(name, frames))
        return results


class _PassthroughSession:
    def __init__(self, avatar: Avatar | None, first_frame: int) -> None:
        self.pictures: deque[tuple[int, Picture]] = deque(maxlen=8)
        self._avatar = avatar
        self._first_frame = first_frame
        self._shown: Picture | None = None
        self._samples = 0
        self._next = 0
        self._generation = 0

    def push_audio(self, samples: int, generation: int) -> None:
        self._samples += samples
        self._generation = max(self._generation, generation)

    def interrupt(self, generation: int) -> list[RenderedFrame]:
        self._generation = generation
        return []

    def due(self, hop_frames: int) -> list[RenderedFrame]:
        end = self._samples // FRAME_SAMPLES
        if end - self._next < hop_frames:
            return []
        frames = self._frames(self._next, end)
        self._next = end
        return frames

    def _frames(self, first: int, end: int) -> list[RenderedFrame]:
        frames = []
        for index in range(first, end):
            start = index * FRAME_SAMPLES
            picture = self._picture(index, start)
            if picture is not None:  # none until the camera's first picture
                frames.append(RenderedFrame(picture, index, start, self._generation, 0.0))
        return frames

    def _picture(self, index: int, start: int) -> Picture | None:
        avatar = self._avatar
        if avatar is not None:
            frame = self._first_frame + index
            return avatar.pictures[loop_index(frame, len(avatar.pictures), avatar.loop)]
        while self.pictures and self.pictures[0][0] <= start:
            self._shown = self.pictures.popleft()[1]
        return self._shown
