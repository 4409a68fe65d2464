"""What sessions carry on the device: rows that plans read in place, and where others wait.

A plan reads the rings of b sessions as one tensor [b, 2, c, ...]: they must lie next to each other.
So there is one slab with a row for each session of the largest batch, and every batch of b reads
its first b rows, bound once. Each session also has a block of its own, taken when it starts, where
its rings wait while others have the rows.

A session that has a row keeps it; its rings are read where they lie and extended in place: only the
new frames' entries are copied, h / c of a ring. When a batch wants a session that has no row among
the first b, its rings are copied there, and those of whoever had the row to his block. So hops of
the same sessions copy no rings; a newcomer costs at most two copies of `session_bytes`.

Rings are circular, as in `engine.denoise.pool`: frame n of a session has the slot n mod c. A window
that is denoised whole has its frames in order instead, because its plan reads them so: its c newest
replace what was carried.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engine.media import F32
from engine.plan_runtime.cuda_runtime import CudaRuntime
from engine.plan_runtime.memory import Allocations, aligned


@dataclass(slots=True, eq=False)
class Resident:
    """One session's place in the slab.

    Attributes:
        block: address of its own memory.
        row: that it has in the slab; None: its rings are in its block.
        carried: frames since its context was empty.
        blank: its rings have to be zeroed before they are read, so that what an empty slot holds
            is a number. Masked or not, one that is not would spread.
    """

    block: int
    row: int | None = None
    carried: int = 0
    blank: bool = True

    def reset(self) -> None:
        """Forgets the carried context."""
        self.carried = 0
        self.blank = True


@dataclass(frozen=True, slots=True)
class Carried:
    """One tensor that sessions carry, [sets, c, ...] of each.

    Attributes:
        buffer: its name, "ring_000/0" for the first ring of step 0.
        sets: rows of frames: keys and values of each branch, for example.
        frame_bytes: of one frame in a set.
        new: address of what a hop gives, [rows, sets, f, ...]: h new frames, or a whole window.
        new_row_bytes: from one session's to the next one's there.
    """

    buffer: str
    sets: int
    frame_bytes: int
    new: int
    new_row_bytes: int


@dataclass(frozen=True, slots=True)
class _Held:
    """One tensor of the slab.

    Attributes:
        base: address of row 0.
        offset: in a session's block.
    """

    carried: Carried
    base: int
    row_bytes: int
    offset: int


class SessionSlab:
    """The slab of one hop length.

    Attributes:
        addresses: of row 0, by buffer: "noise", and those of what is carried.
        session_bytes: device memory that each session takes beside the slab.
    """

    def __init__(
        self,
        cuda: CudaRuntime,
        stream: int,
        allocations: Allocations,
        carried: Sequence[Carried],
        *,
        context: int,
        hop: int,
        in_order: bool = False,
        rows: int,
        noise_bytes: int,
    ) -> None:
        """
        Args:
            context: c, frames of a ring; 0: nothing is carried.
            in_order: the oldest frame comes first, and a hop gives whole windows of c + h frames.
            rows: of the largest batch.
            noise_bytes: of a session's fixed noises.

        Raises:
            OutOfDeviceMemory: the device has no room for the slab.
        """
        self._cuda, self._stream = cuda, stream
        self._context, self._hop, self._in_order = context, hop, in_order
        self._noise_bytes = noise_bytes
        self._noise = allocations.device(rows * noise_bytes)
        cuda.fill(self._noise, rows * noise_bytes, stream)
        self._upload = allocations.host(noise_bytes)[:noise_bytes]
        self.addresses = {"noise": self._noise}
        self._held: list[_Held] = []
        self._occupants: list[Resident | None] = [None] * rows
        offset = aligned(noise_bytes)
        for item in carried if context else ():
            row_bytes = item.sets * context * item.frame_bytes
            base = allocations.device(rows * row_bytes)
            cuda.fill(base, rows * row_bytes, stream)
            self.addresses[item.buffer] = base
            self._held.append(_Held(item, base, row_bytes, offset))
            offset += aligned(row_bytes)
        self.session_bytes = offset

    def open(self, noise: F32) -> Resident:
        """A place for a session with these fixed noises.

        Raises:
            OutOfDeviceMemory: the device has no room for another session.
        """
        block = self._cuda.allocate(self.session_bytes)
        self._upload[:] = noise.reshape(-1).view(np.uint8)
        self._cuda.copy_to_device(block, self._upload, self._stream)
        self._cuda.synchronize(self._stream)  # the next session is staged in the same memory
        return Resident(block)

    def close(self, resident: Resident) -> None:
        """Gives a session's memory back."""
        if resident.row is not None:
            self._occupants[resident.row] = None
        self._cuda.free(resident.block)

    def seat(self, residents: Sequence[Resident], bucket: int) -> list[int]:
        """The rows, below `bucket`, that these sessions have from now on.

        Queues the copies that this takes: none where they all have such rows.
        """
        kept = {r.row for r in residents if r.row is not None and r.row < bucket}
        places = [row for row in range(bucket) if row not in kept]
        places.sort(key=lambda row: self._occupants[row] is not None)
        rows = []
        for resident in residents:
            row = resident.row
            if row is None or row >= bucket:
                row = places.pop(0)
                self._bring(resident, row)
            elif resident.blank:
                self._clear(resident, row)
            rows.append(row)
        return rows

    def store(self, residents: Sequence[Resident]) -> None:
        """Queues the new frames' entries into the rings of these sessions, which all have rows.

        Where a copy is refused, the sessions have forgotten their context.
        """
        carried = [resident.carried for resident in residents]
        for resident in residents:
            resident.reset()
        for resident, frames in zip(residents, carried, strict=True):
            assert resident.row is not None
            for start, slot, count in self._runs(frames):
                for held in self._held:
                    self._store(held, resident.row, start, slot, count)
        for resident, frames in zip(residents, carried, strict=True):
            resident.carried, resident.blank = frames + self._hop, False

    def places(self, resident: Resident) -> tuple[F32, NDArray[np.int64]]:
        """[c] 1.0 where a ring slot of the session holds a frame, and [c] each slot's position."""
        of_slot = np.arange(self._context, dtype=np.int64)
        if not self._in_order:
            of_slot = (of_slot - resident.carried) % max(self._context, 1)
        return (of_slot >= self._context - resident.carried).astype(np.float32), of_slot

    def _runs(self, carried: int) -> Iterator[tuple[int, int, int]]:
        """Runs of the newest frames that go to slots in a row: new frame, slot, count."""
        if self._in_order:
            yield self._hop, 0, self._context
            return
        kept = min(self._hop, self._context)
        start = self._hop - kept
        while start < self._hop:
            slot = (carried + start) % self._context
            count = min(self._hop - start, self._context - slot)
            yield start, slot, count
            start += count

    def _store(self, held: _Held, row: int, start: int, slot: int, count: int) -> None:
        carried = held.carried
        frame = carried.frame_bytes
        new_frames = self._context + self._hop if self._in_order else self._hop
        self._cuda.copy_rows(
            held.base + row * held.row_bytes + slot * frame,
            self._context * frame,
            carried.new + row * carried.new_row_bytes + start * frame,
            new_frames * frame,
            count * frame,
            carried.sets,
            self._stream,
        )

    def _bring(self, resident: Resident, row: int) -> None:
        occupant = self._occupants[row]
        if occupant is not None:
            self._put_away(occupant)
        noise = self._noise + row * self._noise_bytes
        self._cuda.copy(noise, resident.block, self._noise_bytes, self._stream)
        if resident.blank:
            self._clear(resident, row)
        else:
            for held in self._held:
                source = resident.block + held.offset
                if resident.row is not None:
                    source = held.base + resident.row * held.row_bytes
                to = held.base + row * held.row_bytes
                self._cuda.copy(to, source, held.row_bytes, self._stream)
        if resident.row is not None:
            self._occupants[resident.row] = None
        resident.row, self._occupants[row] = row, resident

    def _put_away(self, resident: Resident) -> None:
        assert resident.row is not None
        if not resident.blank:
            for held in self._held:
                source = held.base + resident.row * held.row_bytes
                self._cuda.copy(resident.block + held.offset, source, held.row_bytes, self._stream)
        self._occupants[resident.row] = None
        resident.row = None

    def _clear(self, resident: Resident, row: int) -> None:
        for held in self._held:
            self._cuda.fill(held.base + row * held.row_bytes, held.row_bytes, self._stream)
        resident.blank = False
