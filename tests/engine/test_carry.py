"""Rings keep the newest frames in order and know which slots are filled."""

from __future__ import annotations

import numpy as np
import pytest

from engine.carry import HopRings
from engine.errors import StreamError
from engine.media import F32

SHAPES = [(4, 3), (1, 2)]


def _frames(first: int, hop: int) -> list[F32]:
    return [
        np.broadcast_to(
            np.arange(first, first + hop, dtype=np.float32)[None, :, None, None],
            (2, hop, tokens, channels),
        ).copy()
        for tokens, channels in SHAPES
    ]


@pytest.mark.parametrize("hop", [1, 2, 4, 8, 12])
def test_rings_hold_the_last_frames_oldest_first(hop: int) -> None:
    rings = HopRings(SHAPES, 16 - hop, hop)
    for index in range(5):
        rings.push(_frames(index * hop, hop))
        seen = np.arange((index + 1) * hop)[-(16 - hop) :]
        filled = len(seen)
        assert rings.valid.tolist() == [0.0] * (16 - hop - filled) + [1.0] * filled
        for array, (tokens, channels) in zip(rings.arrays, SHAPES, strict=True):
            assert array.shape == (2, 16 - hop, tokens, channels)
            assert np.array_equal(array[1, 16 - hop - filled :, 0, 0], seen)


def test_a_hop_of_the_whole_window_carries_nothing() -> None:
    rings = HopRings(SHAPES, 0, 16)
    rings.push([])
    assert rings.arrays == []
    assert rings.valid.shape == (0,)


def test_reset_forgets_every_frame() -> None:
    rings = HopRings(SHAPES, 12, 4)
    rings.push(_frames(1, 4))
    rings.reset()
    assert not rings.valid.any()
    assert not any(array.any() for array in rings.arrays)


@pytest.mark.parametrize(("before", "after"), [(4, 1), (1, 4), (4, 8), (2, 15)])
def test_hops_of_another_length_find_the_newest_frames_next_to_theirs(
    before: int, after: int
) -> None:
    rings = HopRings(SHAPES, 16 - before, before)
    made = 0
    for _ in range(5):
        rings.push(_frames(made, before))
        made += before
    changed = rings.at_hop(after)
    kept = min(16 - before, 16 - after, made)
    assert changed.valid.tolist() == [0.0] * (16 - after - kept) + [1.0] * kept
    for array in changed.arrays:
        assert array.shape[1] == 16 - after
        assert np.array_equal(array[0, 16 - after - kept :, 0, 0], np.arange(made - kept, made))
    changed.push(_frames(made, after))
    newest = min(16 - after, kept + after)
    for array in changed.arrays:
        seen = np.arange(made + after - newest, made + after)
        assert np.array_equal(array[1, 16 - after - newest :, 0, 0], seen)


def test_wrong_shapes_are_refused_with_both_shapes_named() -> None:
    rings = HopRings(SHAPES, 12, 4)
    with pytest.raises(StreamError, match=r"\(2, 4, 4, 3\), got \(2, 2, 4, 3\)"):
        rings.push(_frames(0, 2))
    with pytest.raises(StreamError, match="2 layers, got 1"):
        rings.push(_frames(0, 4)[:1])
