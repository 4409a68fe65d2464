"""Prepared clips: a folder with `clip.mp4` and `avatar.json` as a stream's source.

The clip is an idle loop with a resting mouth. Preparing it once for a backend
(affines, latents of every frame and of the reference) leaves nothing about the
face to be done while speaking.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from engine.backends.base import Backend
from engine.errors import AvatarError, StreamError, VideoFormatError
from engine.face.align import align_affine
from engine.face.paste_back import crop_face, square_affine
from engine.media import F32, FPS, U8, Picture
from engine.pipeline import SourceFrame

Loop = Literal["wrap", "pingpong"]
ENCODE_BATCH = 8  # crops a codec call: bounds the memory of preparing a clip


def loop_index(frame: int, count: int, loop: Loop) -> int:
    """The clip frame that shows stream frame `frame`.

    "pingpong" runs forwards, then backwards, with both end frames shown twice.
    """
    if loop == "wrap":
        return frame % count
    turn = frame % (2 * count)
    return turn if turn < count else 2 * count - 1 - turn


@dataclass(frozen=True, slots=True)
class Avatar:
    """A clip in memory.

    Attributes:
        pictures: n pictures of one size, 25 a second.
        points: float32 [n, 3, 2], left brow, right brow (left = smaller x), nose, in pixels.
        reference_frame: the frame whose face is the model's reference.
    """

    name: str
    title: str
    licence: str
    loop: Loop
    pictures: tuple[Picture, ...]
    points: F32
    reference_frame: int

    def __post_init__(self) -> None:
        count = len(self.pictures)
        if count == 0:
            raise AvatarError(f"avatar {self.name!r}: expected a clip with pictures, found none")
        if self.points.shape != (count, 3, 2) or not np.isfinite(self.points).all():
            raise AvatarError(
                f"avatar {self.name!r}: expected three finite points for each of {count} frames, "
                f"got an array of {self.points.shape}"
            )
        if not 0 <= self.reference_frame < count:
            raise AvatarError(
                f"avatar {self.name!r}: expected a reference_frame below {count}, "
                f"got {self.reference_frame}"
            )
        spread = self.points.max(axis=1) - self.points.min(axis=1)
        if (spread.max(axis=1) < 1.0).any():
            raise AvatarError(f"avatar {self.name!r}: the points of a frame coincide")


@dataclass(frozen=True, slots=True)
class PreparedAvatar:
    """An avatar with everything that one model needs of it; shared by all sessions.

    Attributes:
        affines: float32 [n, 2, 3] from picture to network pixels.
        masked_latents, ref_latents: float32 [n, C, s, s].
    """

    avatar: Avatar
    affines: F32
    masked_latents: F32
    ref_latents: F32


def load_avatar(folder: Path) -> Avatar:
    """The avatar in `folder`.

    Raises:
        AvatarError: a file is absent or cannot be read, or the clip differs from its description.
    """
    path = folder / "avatar.json"
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise AvatarError(f"expected an avatar folder with an avatar.json, {error}") from error
    except ValueError as error:
        raise AvatarError(f"{path}: expected JSON, {error}") from error
    name, loop = _text(data, "name", path), _text(data, "loop", path)
    if loop not in get_args(Loop):
        raise AvatarError(f"{path}: expected a loop of {get_args(Loop)}, got {loop!r}")
    try:
        points = np.array(data["points"], np.float32)
        size = (int(data["width"]), int(data["height"]))
        frames, reference_frame = int(data["frames"]), int(data["reference_frame"])
    except (KeyError, TypeError, ValueError) as error:
        raise AvatarError(
            f"{path}: expected width, height, frames, reference_frame and points, {error!r}"
        ) from error
    pictures = tuple(decode_clip(folder, size))
    if len(pictures) != frames:
        raise AvatarError(
            f"{folder}: avatar.json promises {frames} frames, clip.mp4 has {len(pictures)}"
        )
    return Avatar(
        name=name,
        title=str(data.get("title", name)),
        licence=str(data.get("licence", "")),
        loop="wrap" if loop == "wrap" else "pingpong",
        pictures=pictures,
        points=points,
        reference_frame=reference_frame,
    )


def decode_clip(folder: Path, size: tuple[int, int]) -> Iterator[Picture]:
    """The pictures of an avatar's clip, one after the other.

    Args:
        size: width and height that they are to have.

    Raises:
        AvatarError: the clip cannot be read, or is not of 25 pictures a second of that size.
    """
    import av  # here: a machine that only computes has no media libraries

    path = folder / "clip.mp4"
    try:
        with av.open(str(path)) as container:
            if not container.streams.video:
                raise AvatarError(f"{path}: expected a video, found none")
            stream = container.streams.video[0]
            if stream.average_rate != FPS:
                raise AvatarError(
                    f"{path}: expected {FPS} frames a second, got {stream.average_rate}"
                )
            for frame in container.decode(stream):
                if (frame.width, frame.height) != size:
                    raise AvatarError(
                        f"{path}: expected pictures of {size[0]} x {size[1]}, "
                        f"got {frame.width} x {frame.height}"
                    )
                yield Picture(np.ascontiguousarray(frame.to_ndarray(format="yuv420p")))
    except (av.FFmpegError, OSError) as error:
        raise AvatarError(f"{path}: expected a video clip, {error}") from error
    except VideoFormatError as error:
        raise AvatarError(f"{path}: {error}") from error


class AvatarPreparation:
    """An avatar on its way to a `PreparedAvatar`, a few crops a step.

    Args:
        batch: crops a step: bounds its time and memory.
    """

    def __init__(self, avatar: Avatar, backend: Backend, batch: int = ENCODE_BATCH) -> None:
        self._avatar = avatar
        self._backend = backend
        self._batch = batch
        spec = backend.spec
        self._affines = np.stack(
            [
                square_affine(align_affine(points, spec.face), spec.face, spec.resolution)
                for points in avatar.points
            ]
        )
        self._masked: list[F32] = []
        self._whole: list[F32] = []
        self._next = 0

    def step(self) -> PreparedAvatar | None:
        """Encodes some of the faces; the avatar when it was the last of them."""
        spec, pictures = self._backend.spec, self._avatar.pictures
        frames = range(self._next, min(self._next + self._batch, len(pictures)))
        crops = np.stack([self._crop(frame) for frame in frames])
        self._masked.append(self._backend.encode(crops, masked=True))
        if spec.reference == "frame":
            self._whole.append(self._backend.encode(crops, masked=False))
        self._next = frames.stop
        return self._finished() if frames.stop == len(pictures) else None

    def _finished(self) -> PreparedAvatar:
        masked = np.concatenate(self._masked)
        if self._backend.spec.reference == "session":
            crop = self._crop(self._avatar.reference_frame)[None]
            self._whole = [np.broadcast_to(self._backend.encode(crop, masked=False), masked.shape)]
        return PreparedAvatar(self._avatar, self._affines, masked, np.concatenate(self._whole))

    def _crop(self, frame: int) -> U8:
        resolution = self._backend.spec.resolution
        return crop_face(self._avatar.pictures[frame], self._affines[frame], resolution)


def prepare_avatar(avatar: Avatar, backend: Backend) -> PreparedAvatar:
    """The avatar with its affines and latents for the backend's model."""
    preparation = AvatarPreparation(avatar, backend)
    while True:
        prepared = preparation.step()
        if prepared is not None:
            return prepared


class AvatarSource:
    """A stream's pictures from a prepared avatar, looped for ever.

    Args:
        first_frame: where the loop is at the stream's frame 0, in frames since its beginning.
    """

    rests_in_silence = True

    def __init__(self, prepared: PreparedAvatar, first_frame: int = 0) -> None:
        self._prepared = prepared
        self._first_frame = first_frame

    def start_frame(self) -> int | None:
        return 0

    def ready(self, frames: range) -> bool:
        return True

    def take(self, frames: range) -> list[SourceFrame]:
        prepared = self._prepared
        avatar = prepared.avatar
        count, first = len(avatar.pictures), self._first_frame
        order = [loop_index(first + frame, count, avatar.loop) for frame in frames]
        return [
            SourceFrame(
                avatar.pictures[index],
                prepared.affines[index],
                prepared.masked_latents[index],
                prepared.ref_latents[index],
            )
            for index in order
        ]

    def push(self, picture: Picture, pts_samples: int) -> None:
        raise StreamError("expected sound only: an avatar's pictures come from its clip")

    def end(self) -> None:
        """Nothing to end: a loop always has its next picture."""


def _text(data: Any, key: str, path: Path) -> str:
    value = data.get(key) if isinstance(data, dict) else None
    if not isinstance(value, str):
        raise AvatarError(f"{path}: expected a text {key!r}, got {value!r}")
    return value
