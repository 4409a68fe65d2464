"""Rings of sessions that share rows are each session's own, and are copied only when they must."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pytest

from engine.errors import DeviceError, OutOfDeviceMemory
from engine.media import F32
from engine.plan_runtime.bindings import Ring
from engine.plan_runtime.memory import Allocations
from engine.plan_runtime.session_slab import Carried, Resident, SessionSlab
from tests.fake_cuda import FakeCuda

CONTEXT, HOP, ROWS = 5, 2, 4
NOISE = 3
RINGS = (Ring("ring_000", "f32", (2,)), Ring("ring_001", "f16", (1, 3)))


@dataclass
class Frames:
    """What a session's rings should hold: the numbers of its frames, the oldest first."""

    resident: Resident
    shown: list[int] = field(default_factory=list)


class Slab:
    """A slab over a fake device, and a network that gives every frame a number."""

    def __init__(
        self,
        context: int = CONTEXT,
        hop: int = HOP,
        capacity: int = 1 << 20,
        *,
        in_order: bool = False,
    ) -> None:
        self.cuda = FakeCuda(capacity)
        self.stream = self.cuda.create_stream()
        self.allocations = Allocations(self.cuda)
        self.context, self.hop = context, hop
        self.given = context + hop if in_order else hop
        self.new = {
            f"new_{ring.name}/{step}": self.allocations.device(
                ROWS * 2 * self.given * ring.frame_bytes
            )
            for ring in RINGS
            for step in range(2)
        }
        self.slab = SessionSlab(
            self.cuda,
            self.stream,
            self.allocations,
            [
                Carried(
                    f"{ring.name}/{step}",
                    2,
                    ring.frame_bytes,
                    self.new[f"new_{ring.name}/{step}"],
                    2 * self.given * ring.frame_bytes,
                )
                for step in range(2)
                for ring in RINGS
            ],
            context=context,
            in_order=in_order,
            hop=hop,
            rows=ROWS,
            noise_bytes=4 * NOISE,
        )
        self._number = 0

    def join(self) -> Frames:
        self._number += 1
        noise = np.full(NOISE, self._number, np.float32)
        return Frames(self.slab.open(noise))

    def values(self, address: int, ring: Ring, frames: int) -> F32:
        """[rows, 2, frames, ...] of a ring's memory, writable."""
        kind = np.dtype(np.float32 if ring.dtype == "f32" else np.float16)
        size = ROWS * 2 * frames * ring.frame_bytes
        raw = self.cuda.memory(address, size).view(kind)
        return raw.reshape(ROWS, 2, frames, *ring.shape)

    def hop_of(self, *sessions: Frames, bucket: int = ROWS) -> list[int]:
        """Seats the sessions, checks what a plan would read, and stores numbered frames."""
        rows = self.slab.seat([session.resident for session in sessions], bucket)
        self.cuda.synchronize(self.stream)
        assert len(set(rows)) == len(rows) and max(rows) < bucket
        for row, session in zip(rows, sessions, strict=True):
            self.check(row, session)
            fresh = range(self._number + 1, self._number + 1 + self.hop)
            self._number += self.hop
            for name, address in self.new.items():
                ring = next(ring for ring in RINGS if ring.name in name)
                new = self.values(address, ring, self.given)
                shown = [*session.shown, *fresh][-self.given :]
                for frame, number in enumerate(shown, self.given - len(shown)):
                    new[row, 0, frame], new[row, 1, frame] = number, -number
            session.shown += fresh
        self.slab.store([session.resident for session in sessions])
        self.cuda.synchronize(self.stream)
        for row, session in zip(rows, sessions, strict=True):
            self.check(row, session)
        return rows

    def check(self, row: int, session: Frames) -> None:
        """The rows that a plan reads hold the session's newest frames where `places` says."""
        valid, places = self.slab.places(session.resident)
        newest = session.shown[-self.context :]
        assert valid.sum() == len(newest)
        order = np.argsort(places)[self.context - len(newest) :]
        assert valid[order].all()
        if self.given > self.hop:
            assert places.tolist() == list(range(self.context))
        for step in range(2):
            for ring in RINGS:
                address = self.slab.addresses[f"{ring.name}/{step}"]
                held = self.values(address, ring, self.context)[row]
                for slot, number in zip(order, newest, strict=True):
                    assert (held[0, slot] == number).all() and (held[1, slot] == -number).all()
                assert np.isfinite(held).all()


@pytest.mark.parametrize("in_order", [False, True], ids=["circular", "in order"])
@pytest.mark.parametrize(("context", "hop"), [(5, 2), (4, 4), (3, 5), (12, 4), (1, 1)])
def test_the_newest_frames_of_every_session_are_held_whoever_shares_the_rows(
    context: int, hop: int, in_order: bool
) -> None:
    slab, dice = Slab(context, hop, in_order=in_order), np.random.default_rng(0)
    sessions = [slab.join() for _ in range(6)]
    for turn in range(60):
        bucket = int(dice.choice([1, 2, 4]))
        chosen = dice.permutation(6)[: dice.integers(1, bucket + 1)]
        slab.hop_of(*(sessions[index] for index in chosen), bucket=bucket)
        if turn % 11 == 10:
            ended = sessions[turn % 6]
            ended.resident.reset()
            ended.shown.clear()


def test_sessions_that_keep_together_copy_nothing_but_new_frames() -> None:
    slab = Slab()
    sessions = [slab.join() for _ in range(3)]
    slab.hop_of(*sessions)
    before = len(slab.cuda.copies)
    slab.hop_of(*reversed(sessions))
    sizes = [copy.size for copy in slab.cuda.copies[before:]]
    new = 2 * sum(2 * HOP * ring.frame_bytes for ring in RINGS)
    assert sum(sizes) == 3 * new


def test_a_session_gets_its_own_noise_with_its_row() -> None:
    slab = Slab()
    first, second = slab.join(), slab.join()
    for session, number in ((second, 2), (first, 1), (second, 2)):
        (row,) = slab.slab.seat([session.resident], 1)
        slab.cuda.synchronize(slab.stream)
        noise = slab.cuda.memory(slab.slab.addresses["noise"] + row * 4 * NOISE, 4 * NOISE)
        assert set(noise.view(np.float32)) == {number}


def test_a_free_row_is_taken_before_one_that_is_in_use() -> None:
    slab = Slab()
    first, second, third = slab.join(), slab.join(), slab.join()
    assert slab.hop_of(first, second, bucket=2) == [0, 1]
    assert slab.hop_of(third, bucket=4) == [2]
    slab.slab.close(first.resident)
    assert slab.hop_of(slab.join(), bucket=2) == [0]


def test_what_is_not_a_number_is_gone_when_its_session_begins_anew() -> None:
    slab = Slab()
    ill = slab.join()
    (row,) = slab.hop_of(ill)
    for ring in RINGS:
        address = slab.slab.addresses[f"{ring.name}/1"]
        slab.values(address, ring, CONTEXT)[row] = np.nan
    ill.resident.reset()
    ill.shown.clear()
    slab.hop_of(ill)


def test_a_store_that_is_refused_forgets_the_contexts_of_its_sessions_alone() -> None:
    slab = Slab()
    first, second = slab.join(), slab.join()
    slab.hop_of(first, second)
    slab.slab.seat([first.resident], 4)
    slab.cuda.refuse = {"copy_rows"}
    with pytest.raises(DeviceError, match="copy_rows was refused"):
        slab.slab.store([first.resident])
    slab.cuda.refuse = set()
    first.shown.clear()
    assert first.resident.carried == 0
    slab.hop_of(first, second)
    slab.hop_of(second, first)


def test_nothing_is_carried_where_a_hop_is_the_whole_window() -> None:
    slab = Slab(context=0, hop=4)
    session = slab.join()
    assert list(slab.slab.addresses) == ["noise"] and slab.slab.session_bytes == 256
    slab.slab.seat([session.resident], 1)
    before = len(slab.cuda.copies)
    slab.slab.store([session.resident])
    slab.cuda.synchronize(slab.stream)
    assert len(slab.cuda.copies) == before + 1  # its noise
    valid, places = slab.slab.places(session.resident)
    assert valid.size == places.size == 0


def test_a_session_takes_its_block_and_gives_it_back() -> None:
    slab = Slab()
    used = slab.cuda.used
    session = slab.join()
    assert slab.cuda.used - used == slab.slab.session_bytes
    slab.hop_of(session)
    slab.slab.close(session.resident)
    assert slab.cuda.used == used
    slab.cuda.capacity = used + 10
    with pytest.raises(OutOfDeviceMemory):
        slab.join()


def test_a_slab_that_the_device_has_no_room_for_is_refused() -> None:
    with pytest.raises(OutOfDeviceMemory):
        Slab(capacity=1000)
