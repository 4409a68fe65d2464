"""The avatars on disk: their list and their posters.

An avatar is a folder with `avatar.json` and `clip.mp4`; the folder's name is
the avatar's. Earlier folders of the search path win.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np

from engine.errors import AvatarError
from engine.media import Picture
from server.quoting import quoted

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
POSTER_QUALITY = 85


@dataclass(frozen=True, slots=True)
class AvatarInfo:
    """One entry of the list.

    Attributes:
        loop: "wrap" or "pingpong".
    """

    name: str
    title: str
    width: int
    height: int
    frames: int
    loop: str
    licence: str
    folder: Path


class AvatarLibrary:
    """The avatars found in some folders."""

    def __init__(self, folders: Sequence[Path]) -> None:
        self._folders = tuple(folders)

    def infos(self) -> list[AvatarInfo]:
        """All avatars that can be read, by name; broken folders are left out."""
        found: dict[str, AvatarInfo] = {}
        for folder in self._candidates():
            if folder.name in found:
                continue
            try:
                found[folder.name] = _read_info(folder)
            except AvatarError:
                continue  # `lipwire doctor` reports it
        return [found[name] for name in sorted(found)]

    def get(self, name: str) -> AvatarInfo:
        """One avatar.

        Raises:
            AvatarError: there is none of that name, or it cannot be read.
        """
        if NAME.fullmatch(name):
            for folder in self._folders:
                if (folder / name / "avatar.json").is_file():
                    return _read_info(folder / name)
        known = ", ".join(info.name for info in self.infos()) or "none"
        raise AvatarError(f"expected the name of an avatar ({known}), got {quoted(name)}")

    def poster(self, name: str) -> bytes:
        """The first picture of the avatar's clip as JPEG.

        Raises:
            AvatarError: no such avatar, or a clip without pictures.
        """
        info = self.get(name)
        for picture in _decode(info.folder / "clip.mp4"):
            bgr = cv2.cvtColor(picture.i420, cv2.COLOR_YUV2BGR_I420)
            done, data = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, POSTER_QUALITY])
            if done:
                return data.tobytes()
        raise AvatarError(f"avatar {name!r}: expected a clip with pictures, found none")

    def _candidates(self) -> Iterator[Path]:
        for root in self._folders:
            if root.is_dir():
                for folder in sorted(root.iterdir()):
                    if NAME.fullmatch(folder.name) and (folder / "avatar.json").is_file():
                        yield folder


def _read_info(folder: Path) -> AvatarInfo:
    path = folder / "avatar.json"
    try:
        data: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return AvatarInfo(
            name=folder.name,
            title=str(data.get("title", folder.name)),
            width=int(data["width"]),
            height=int(data["height"]),
            frames=int(data["frames"]),
            loop=str(data.get("loop", "wrap")),
            licence=str(data.get("licence", "")),
            folder=folder,
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise AvatarError(f"{path}: expected an avatar description, {error!r}") from error


def _decode(path: Path) -> Iterator[Picture]:
    try:
        with av.open(str(path)) as container:
            for frame in container.decode(video=0):
                yield Picture(np.asarray(frame.to_ndarray(format="yuv420p"), np.uint8))
    except (av.FFmpegError, OSError, IndexError) as error:
        raise AvatarError(f"{path}: expected a video clip, {error}") from error
