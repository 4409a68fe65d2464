"""A ring's bookkeeping is one number, and slots are handed out, taken back and outgrown."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from engine.denoise.model import TorchModel
from engine.denoise.pool import (
    PADDING_SLOT,
    Needs,
    SessionPool,
    places_of,
    read_frames,
    write_frames,
)
from engine.errors import StreamError
from tests.tiny_models import TINY_SPEC

CPU = torch.device("cpu")
WARM = dataclasses.replace(TINY_SPEC, start="warm", timesteps=(799, 399), carry="carry")


def pool_of(capacity: int = 2) -> SessionPool:
    return SessionPool(TorchModel.random(WARM, CPU, "f32"), WARM, 4, Needs(True, True), capacity)


@given(context=st.integers(1, 15), hops=st.lists(st.integers(1, 16), max_size=12))
def test_places_follow_a_plain_list_of_frames(context: int, hops: list[int]) -> None:
    slots: list[int | None] = [None] * context
    carried = 0
    for hop in [*hops, 1]:
        newest = list(range(max(carried - context, 0), carried))
        places = places_of(torch.tensor([carried]), context, hop)
        position = {frame: context - len(newest) + place for place, frame in enumerate(newest)}
        for slot, frame in enumerate(slots):
            assert bool(places.filled[0, slot]) == (frame is not None)
            if frame is not None:
                assert int(places.of_slot[0, slot]) == position[frame]
        there = [
            slots[slot]
            for slot, present in zip(
                places.order[0].tolist(), places.present[0].tolist(), strict=True
            )
            if present
        ]
        assert there == newest
        coming = list(range(carried, carried + hop))[-places.keep :]
        for slot, frame in zip(places.next[0].tolist(), coming, strict=True):
            slots[slot] = frame
        carried += hop


def test_frames_come_back_in_order_after_the_ring_has_wrapped() -> None:
    held = torch.zeros(3, 5, 2)
    slots = torch.tensor([2, 1])
    carried = torch.tensor([0, 3])
    for _ in range(4):
        places = places_of(carried, 5, 2)
        frames = (carried[:, None] + torch.arange(2)).float()[:, :, None].expand(-1, -1, 2)
        write_frames(held, slots, places.next, frames)
        carried = carried + 2
    places = places_of(carried, 5, 2)
    got = read_frames(held, slots, places.order)[:, :, 0]
    assert got.tolist() == [[3, 4, 5, 6, 7], [6, 7, 8, 9, 10]]
    assert held[0].abs().max() == 0


def test_sessions_have_slots_of_their_own_and_none_has_the_padding() -> None:
    pool = pool_of()
    noise = torch.ones(pool.noise.shape[1:])
    first, second = pool.acquire(noise), pool.acquire(2 * noise)
    assert len({first, second, PADDING_SLOT}) == 3
    pool.release(first)
    assert pool.acquire(noise) == first
    with pytest.raises(StreamError, match="expected noises"):
        pool.acquire(noise[0])


def test_a_full_pool_grows_and_keeps_what_it_holds() -> None:
    pool = pool_of()
    noise = torch.ones(pool.noise.shape[1:])
    held = [pool.acquire(value * noise) for value in (1, 2)]
    pool.rings[1][0][held[1]] = 7.0
    pool.latents[held[0]] = 5.0
    before = pool.generation
    more = [pool.acquire(value * noise) for value in (3, 4, 5)]
    assert pool.generation > before
    assert len({*held, *more, PADDING_SLOT}) == 6
    assert [float(pool.noise[slot].mean()) for slot in (*held, *more)] == [1, 2, 3, 4, 5]
    assert float(pool.rings[1][0][held[1]].min()) == 7.0
    assert float(pool.latents[held[0]].min()) == 5.0
    assert float(pool.rings[1][0][more[0]].abs().max()) == 0.0


def test_memory_is_only_taken_for_what_a_mode_reads() -> None:
    model = TorchModel.random(WARM, CPU, "f32")
    sizes = {
        needs: SessionPool(model, WARM, 4, Needs(*needs)).session_bytes
        for needs in ((False, False), (True, False), (False, True), (True, True))
    }
    assert sizes[False, False] < sizes[True, False] < sizes[True, True]
    assert sizes[True, True] + sizes[False, False] == sizes[True, False] + sizes[False, True]
