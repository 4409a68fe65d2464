"""What a call shows where the engine has no picture: the source's own, at the same place in time.

An avatar's clip is an idle loop, so that its own frame of a place continues the frames before it
with the mouth at rest. Of a camera it is what the camera saw then.
"""

from __future__ import annotations

import asyncio
import logging
import tempfile
import time
from collections import deque
from typing import Protocol
from weakref import WeakValueDictionary

import cv2
import numpy as np

from engine.avatar import Loop, decode_clip, loop_index
from engine.errors import AvatarError
from engine.media import U8, Picture
from server.avatars.library import AvatarInfo
from server.media.media_clock import FRAME_TICKS

logger = logging.getLogger(__name__)

CAMERA_HISTORY = 24  # pictures: longer than playout's delay ever is
PAUSE_S = 0.003  # after each picture of a clip that is read: calls that go on come first


class SourcePictures(Protocol):
    """The source's own pictures of one call, by media time.

    Attributes:
        patience: ticks for which the last picture rather stays than gives way to the source's:
            a mouth that shuts for one frame amid speech is seen, a frame shown twice is not.
        mixes: its picture of a place is, but for the mouth, the one that the engine drew upon, so
            that the two can be mixed. A busy engine may have missed a camera's.
    """

    patience: int
    mixes: bool

    def at(self, pts: int) -> Picture | None:
        """The picture of a place, if there is any yet."""


class CameraPictures:
    """What a camera has sent lately."""

    patience = 0
    mixes = False

    def __init__(self) -> None:
        self._taken: deque[tuple[int, Picture]] = deque(maxlen=CAMERA_HISTORY)

    def push(self, picture: Picture, pts: int) -> None:
        """Notes a picture that was taken at a media time."""
        self._taken.append((pts, picture))

    def at(self, pts: int) -> Picture | None:
        """The newest that was taken by the middle of the place, as the engine's choice is."""
        shown: Picture | None = None
        for taken, picture in self._taken:
            if taken < pts + FRAME_TICKS // 2 or shown is None:
                shown = picture
        return shown


class ClipPictures:
    """The frames of an avatar's clip, once they are decoded.

    They lie in a file without a name, 79 MB of 8 s at 512 x 512, which goes with the last call that
    shows them: what is not looked at costs no memory that the kernel could not take back.
    """

    patience = 3 * FRAME_TICKS
    mixes = True

    def __init__(self, avatar: AvatarInfo) -> None:
        self._avatar = avatar
        self._pictures: U8 | None = None  # [n, height * 3 // 2, width]

    def at(self, pts: int) -> Picture | None:
        if self._pictures is None:
            return None
        frame = max(pts // FRAME_TICKS, 0)
        loop: Loop = "wrap" if self._avatar.loop == "wrap" else "pingpong"
        index = loop_index(frame, len(self._pictures), loop)
        return Picture(np.asarray(self._pictures[index]))

    def decode(self) -> None:
        """Reads the clip: takes a while, so not on an event loop."""
        avatar = self._avatar
        try:
            with tempfile.TemporaryFile(prefix="lipwire-") as file:
                count = 0
                for picture in decode_clip(avatar.folder, (avatar.width, avatar.height)):
                    file.write(picture.i420.data)
                    count += 1
                    time.sleep(PAUSE_S)
                file.flush()
                shape = (count, avatar.height * 3 // 2, avatar.width)
                self._pictures = np.memmap(file, np.uint8, "r", shape=shape)
        except (AvatarError, OSError, ValueError) as error:
            logger.warning("avatar %s: its own pictures will not be shown, %s", avatar.name, error)


class Clips:
    """The clips that a gateway's calls show, each decoded once for all of them."""

    def __init__(self) -> None:
        self._clips: WeakValueDictionary[tuple[str, int], ClipPictures] = WeakValueDictionary()
        self._decoding: set[asyncio.Future[None]] = set()

    def open(self, avatar: AvatarInfo) -> ClipPictures:
        """An avatar's clip; one that is new is decoded on a thread from now on."""
        # An uploaded avatar may be another one of the same name.
        key = (str(avatar.folder), (avatar.folder / "avatar.json").stat().st_mtime_ns)
        clip = self._clips.get(key)
        if clip is None:
            clip = self._clips[key] = ClipPictures(avatar)
            decoding = asyncio.get_running_loop().run_in_executor(None, clip.decode)
            self._decoding.add(decoding)
            decoding.add_done_callback(self._decoding.discard)
        return clip


def half_way(one: Picture, other: Picture) -> Picture:
    """The mean of two pictures of one size; the second where their sizes differ."""
    if one.i420.shape != other.i420.shape:
        return other
    return Picture(np.asarray(cv2.addWeighted(one.i420, 0.5, other.i420, 0.5, 0.0), np.uint8))
