"""Pictures in shared memory."""

from __future__ import annotations

import stat
from pathlib import Path

import numpy as np
import pytest

from engine.errors import VideoFormatError
from engine.media import Picture
from server.engine_link.frame_block import FrameBlock, picture_bytes
from tests.server_fakes import shared_blocks


def _picture(width: int, height: int, seed: int = 0) -> Picture:
    dice = np.random.default_rng(seed)
    return Picture(dice.integers(0, 255, (height * 3 // 2, width), np.uint8))


def test_pictures_of_any_size_pass_from_one_end_to_the_other() -> None:
    block = FrameBlock.create(3, picture_bytes(64, 48))
    other = FrameBlock.attach(block.name, picture_bytes(64, 48))
    try:
        pictures = [_picture(64, 48, 1), _picture(32, 16, 2), _picture(48, 64, 3)]
        for slot, picture in enumerate(pictures):
            other.write(slot, picture)
        for slot, picture in enumerate(pictures):
            got = block.read(slot, picture.width, picture.height)
            assert np.array_equal(got.i420, picture.i420)
    finally:
        other.close()
        block.close()


def test_a_picture_larger_than_a_slot_is_refused() -> None:
    block = FrameBlock.create(1, picture_bytes(64, 48))
    try:
        with pytest.raises(VideoFormatError, match="at most"):
            block.write(0, _picture(66, 48))
    finally:
        block.close()


def test_the_owner_removes_the_memory() -> None:
    before = shared_blocks()
    block = FrameBlock.create(1, 100)
    assert shared_blocks() - before == {block.name}
    block.close()
    assert shared_blocks() == before


def test_only_this_user_can_open_the_memory() -> None:
    block = FrameBlock.create(1, 6)
    try:
        mode = (Path("/dev/shm") / block.name).stat().st_mode
        assert stat.S_IMODE(mode) == 0o600
    finally:
        block.close()
