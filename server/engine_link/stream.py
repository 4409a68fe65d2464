"""One session's stream in the engine, seen from the gateway: slots, positions, generations."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from engine.media import F32, FRAME_SAMPLES, Picture
from server.engine_link.frame_block import FrameBlock, picture_bytes
from server.engine_link.messages import (
    CloseSession,
    HopReady,
    Interrupt,
    Mode,
    OpenSession,
    PushAudio,
    PushVideo,
    ReleaseSlot,
    SessionDeferred,
    SessionFailed,
    SessionMayOpen,
    SlotTaken,
    ToEngine,
)

INPUT_SLOTS = 3  # live mode: one being read, one waiting, one being written
OUTPUT_SLOTS = 24  # an interrupt finishes up to 18 pictures at once, all that a late engine owes


@dataclass(frozen=True, slots=True)
class EngineFrame:
    """One finished frame with its session index."""

    index: int
    generation: int
    synced: float
    picture: Picture


class EngineListener(Protocol):
    """What a session wants to hear. Called on the event loop."""

    def on_hop(self, frames: Sequence[EngineFrame], hop: HopReady) -> None:
        """Frames that became ready together."""

    def on_stream_failed(self, code: str, message: str) -> None:
        """The engine gave this session up."""

    def on_engine_lost(self) -> None:
        """The engine died; the stream will be opened again."""


class EngineStream:
    """One session's stream in the engine, whichever engine process runs it.

    Args:
        send: takes messages for the engine.
        forget: told when the stream is closed.
        largest: width and height of the largest picture.

    Attributes:
        avatar: its name, None in live mode.
        camera_drops: camera pictures that gave way to newer ones.
    """

    def __init__(
        self,
        send: Callable[[ToEngine], None],
        forget: Callable[[str], None],
        session: str,
        mode: Mode,
        avatar: str | None,
        largest: tuple[int, int],
        listener: EngineListener,
    ) -> None:
        self._send = send
        self._forget = forget
        self.session = session
        self.listener = listener
        self._mode: Mode = mode
        self.avatar = avatar
        self._inputs = INPUT_SLOTS if mode == "live" else 0
        self._slot_bytes = picture_bytes(*largest)
        self._block = FrameBlock.create(self._inputs + OUTPUT_SLOTS, self._slot_bytes)
        self._generation = 0
        self._position = 0  # 16 kHz samples pushed so far
        self._skip = 0  # samples to leave out until the stream's first frame begins
        self._free: list[int] = []
        self._waiting: tuple[Picture, int] | None = None
        self._open = False
        self.camera_drops = 0

    def open(self) -> None:
        """Opens the stream at the next whole frame of media time."""
        first = -(-self._position // FRAME_SAMPLES)
        self._skip = first * FRAME_SAMPLES - self._position
        self._free = list(range(self._inputs))
        self._waiting = None
        self._open = True
        self._send(
            OpenSession(
                session=self.session,
                mode=self._mode,
                avatar=self.avatar,
                block=self._block.name,
                slot_bytes=self._slot_bytes,
                input_slots=self._inputs,
                output_slots=OUTPUT_SLOTS,
                first_frame=first,
                generation=self._generation,
                seed=0,
            )
        )

    def push_audio(self, samples: F32) -> None:
        """Adds 16 kHz mono sound; while no engine runs it only moves time."""
        self._position += len(samples)
        if not self._open:
            return
        skipped = min(self._skip, len(samples))
        self._skip -= skipped
        if skipped < len(samples):
            data = np.ascontiguousarray(samples[skipped:], np.float32).tobytes()
            self._send(PushAudio(self.session, self._generation, data))

    def push_video(self, picture: Picture, pts_samples: int) -> None:
        """Adds a camera picture; a newer one replaces one that still waits."""
        if not self._open:
            return
        if self._waiting is not None:
            self.camera_drops += 1
        self._waiting = (picture, pts_samples)
        self._send_waiting()

    def interrupt(self, generation: int) -> None:
        """Voids everything said before."""
        self._generation = generation
        if self._open:
            self._send(Interrupt(self.session, generation))

    def close(self) -> None:
        """Ends the stream and removes its memory."""
        if self._open:
            self._send(CloseSession(self.session))
        self._open = False
        self._forget(self.session)
        self._block.close()

    def lost(self) -> None:
        """The engine process is gone."""
        self._open = False
        self.listener.on_engine_lost()

    def take(
        self, message: HopReady | SlotTaken | SessionDeferred | SessionMayOpen | SessionFailed
    ) -> None:
        """What the engine says about this stream."""
        match message:
            case SessionDeferred():
                self._open = False
            case SessionMayOpen():
                self.open()
            case HopReady():
                self._take_hop(message)
            case SlotTaken():
                self._free.append(message.slot)
                self._send_waiting()
            case SessionFailed():
                self._open = False
                self.listener.on_stream_failed(message.code, message.message)

    def _take_hop(self, message: HopReady) -> None:
        frames = []
        for ready in message.frames:
            picture = self._block.read(ready.slot, ready.width, ready.height)
            self._send(ReleaseSlot(self.session, ready.slot))
            frames.append(EngineFrame(ready.index, ready.generation, ready.synced, picture))
        self.listener.on_hop(frames, message)

    def _send_waiting(self) -> None:
        if self._waiting is None or not self._free or not self._open:
            return
        picture, pts = self._waiting
        self._waiting = None
        slot = self._free.pop()
        self._block.write(slot, picture)
        self._send(PushVideo(self.session, slot, picture.width, picture.height, pts))
