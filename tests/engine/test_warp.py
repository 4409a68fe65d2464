"""A frame's warp means what the trainer means by it, and moves pixels no further than it may."""

from __future__ import annotations

import dataclasses

import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from engine.errors import ConfigError, VideoFormatError
from engine.face.warp import MAX_MOTION_CELLS, SourceWarp, compose
from engine.media import F32, U8
from engine.spec import WARP_CHANNELS
from tests.tiny_models import TINY_SPEC

R, CELLS = 64, 8


def smooth_pictures(count: int) -> list[U8]:
    noise = np.random.default_rng(0).integers(0, 255, (count, 8, 8, 3), np.uint8)
    return [np.asarray(cv2.resize(one, (R, R), interpolation=cv2.INTER_CUBIC)) for one in noise]


def random_channels(seed: int = 0, motion: float = 0.7) -> F32:
    channels = np.random.default_rng(seed).standard_normal((WARP_CHANNELS, CELLS, CELLS))
    channels[:2] *= motion
    channels[2:] *= 3.0
    return channels.astype(np.float32)


def still(cover: float) -> SourceWarp:
    return SourceWarp(
        np.zeros((CELLS, CELLS, 2), np.float32),
        np.full((4 * CELLS, 4 * CELLS), cover, np.float32),
    )


def composed_by_torch(source: U8, decoded: U8, channels: F32) -> F32:
    """float32 [R, R, 3], as a trainer computes it."""

    def tensor(picture: U8) -> Tensor:
        return torch.from_numpy(picture).permute(2, 0, 1)[None].float()

    given = torch.from_numpy(channels)[None]
    motion = F.interpolate(given[:, :2], size=(R, R), mode="bilinear", align_corners=False)
    cover = torch.sigmoid(F.pixel_shuffle(given[:, 2:], 4))
    cover = F.interpolate(cover, size=(R, R), mode="bilinear", align_corners=False)
    rows, columns = torch.meshgrid(torch.arange(R), torch.arange(R), indexing="ij")
    places = torch.stack([columns, rows], dim=-1) + R / CELLS * motion[0].permute(1, 2, 0)
    grid = (2 * places + 1) / R - 1
    moved = F.grid_sample(
        tensor(source), grid[None], mode="bilinear", padding_mode="border", align_corners=False
    )
    mixed = cover * tensor(decoded) + (1 - cover) * moved
    return np.asarray(mixed[0].permute(1, 2, 0).numpy(), np.float32)


@pytest.mark.parametrize("seed", range(3))
def test_composing_gives_what_torch_gives(seed: int) -> None:
    source, decoded = smooth_pictures(2)
    channels = random_channels(seed)
    got = compose(source, decoded, SourceWarp.of(channels))
    want = composed_by_torch(source, decoded, channels)
    assert np.abs(got - want).max() <= 1.5  # a level, and half a one for rounding
    assert np.abs(got - want).mean() < 0.3
    assert np.abs(want - source).mean() > 10.0


def test_a_still_warp_without_cover_is_the_source_and_a_full_cover_the_decoded_picture() -> None:
    source, decoded = smooth_pictures(2)
    assert np.array_equal(compose(source, decoded, still(0.0)), source)
    assert np.array_equal(compose(source, decoded, still(1.0)), decoded)


def test_pixels_come_from_where_the_motion_points() -> None:
    source = smooth_pictures(1)[0]
    warp = still(0.0)
    warp.motion[:] = 1.0, -0.5  # of cells of 8 pixels
    got = compose(source, source, warp)
    assert np.array_equal(got[4:, :-8], source[:-4, 8:])
    assert np.array_equal(got[:4, 0], np.repeat(source[:1, 8], 4, axis=0))  # the edge repeated


def test_a_share_moves_pixels_that_far_and_covers_them_so_much() -> None:
    source, decoded = smooth_pictures(2)
    warp = still(0.0)
    warp.motion[:] = 0.5, 0.0
    half = np.full((R, R), 0.5, np.float32)
    assert np.array_equal(compose(source, decoded, warp, half)[:, :-2], source[:, 2:])
    mixed = compose(source, decoded, still(1.0), half)
    assert np.abs(mixed - (source / 2 + decoded / 2)).max() <= 0.5
    nothing = np.zeros((R, R), np.float32)
    channels = SourceWarp.of(random_channels())
    assert np.array_equal(compose(source, decoded, channels, nothing), source)


def test_motion_is_held_within_its_maximum() -> None:
    channels = random_channels(motion=100.0)
    warp = SourceWarp.of(channels)
    assert np.abs(warp.motion).max() == MAX_MOTION_CELLS
    assert warp.motion.shape == (CELLS, CELLS, 2) and warp.motion.dtype == np.float32


def test_large_logits_become_covers_without_a_warning() -> None:
    channels = np.full((WARP_CHANNELS, CELLS, CELLS), 200.0, np.float32)
    channels[2:10] = -200.0
    cover = SourceWarp.of(channels).cover
    assert cover.shape == (4 * CELLS, 4 * CELLS)
    assert (cover[0::4] == 0.0).all() and (cover[2::4] == 1.0).all()


@pytest.mark.parametrize("shape", [(17, 8, 8), (18, 8)])
def test_channels_of_another_shape_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(VideoFormatError, match=r"expected warp channels \[18, s, s\]"):
        SourceWarp.of(np.zeros(shape, np.float32))


def test_latentsyncs_own_way_of_pasting_knows_no_warp() -> None:
    unet = dataclasses.replace(TINY_SPEC.unet, source_warp=True)
    face = dataclasses.replace(TINY_SPEC.face, paste="latentsync")
    assert dataclasses.replace(TINY_SPEC, unet=unet).face.paste == "crop_mask"
    with pytest.raises(ConfigError, match="expected the paste 'crop_mask'"):
        dataclasses.replace(TINY_SPEC, unet=unet, face=face)
