"""Pictures that two processes share: one block of memory per session, cut into slots.

The gateway creates and unlinks the block, the engine process attaches to it.
Who may write a slot is settled by messages (`server.engine_link.messages`), never
by the memory itself. Each slot holds one I420 picture of any size up to the
block's largest; its size travels in the message.
"""

from __future__ import annotations

import os
import secrets
from multiprocessing.shared_memory import SharedMemory
from pathlib import Path

import numpy as np

from engine.errors import VideoFormatError
from engine.media import U8, Picture

PREFIX = "lipwire"


def picture_bytes(width: int, height: int) -> int:
    return width * height * 3 // 2


def remove_blocks_of(pid: int) -> None:
    """Removes what a process that is gone has left in shared memory."""
    for path in Path("/dev/shm").glob(f"{PREFIX}-{pid}-*"):
        try:
            memory = SharedMemory(name=path.name)
        except FileNotFoundError:
            continue
        memory.close()
        memory.unlink()


class FrameBlock:
    """A row of picture slots in shared memory."""

    def __init__(self, memory: SharedMemory, slot_bytes: int, *, owner: bool) -> None:
        self._memory = memory
        self._slot_bytes = slot_bytes
        self._owner = owner

    @classmethod
    def create(cls, slots: int, slot_bytes: int) -> FrameBlock:
        """A new block, which `close` removes."""
        name = f"{PREFIX}-{os.getpid()}-{secrets.token_hex(6)}"
        memory = SharedMemory(name=name, create=True, size=slots * slot_bytes)
        return cls(memory, slot_bytes, owner=True)

    @classmethod
    def attach(cls, name: str, slot_bytes: int) -> FrameBlock:
        """The block that another process created."""
        return cls(SharedMemory(name=name), slot_bytes, owner=False)

    @property
    def name(self) -> str:
        return self._memory.name

    def write(self, slot: int, picture: Picture) -> None:
        """Copies a picture into a slot.

        Raises:
            VideoFormatError: the picture is larger than a slot.
        """
        if picture.i420.size > self._slot_bytes:
            raise VideoFormatError(
                f"expected a picture of at most {self._slot_bytes} bytes, "
                f"got {picture.width}x{picture.height}"
            )
        self._view(slot, picture.width, picture.height)[:] = picture.i420

    def read(self, slot: int, width: int, height: int) -> Picture:
        """A copy of the picture in a slot."""
        return Picture(self._view(slot, width, height).copy())

    def close(self) -> None:
        """Lets go of the memory; the owner also removes it."""
        self._memory.close()
        if self._owner:
            self._memory.unlink()

    def _view(self, slot: int, width: int, height: int) -> U8:
        return np.ndarray(
            (height * 3 // 2, width),
            np.uint8,
            buffer=self._memory.buf,
            offset=slot * self._slot_bytes,
        )
