"""A warp moves the picture's own pixels, at their full resolution, where the mask lets it."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from engine.face.paste_back import PasteMask, crop_face, paste_crop, planes
from engine.face.warp import MAX_MOTION_CELLS, SourceWarp, compose
from engine.media import F32, U8, Picture

R, CELLS = 64, 8
WIDTH, HEIGHT = 160, 120
BLACK: U8 = np.zeros((R, R, 3), np.uint8)


def noise(seed: int = 0) -> Picture:
    i420 = np.random.default_rng(seed).integers(16, 235, (HEIGHT * 3 // 2, WIDTH), np.uint8)
    return Picture(i420)


def smooth(seed: int = 0) -> Picture:
    coarse = np.random.default_rng(seed).integers(40, 215, (HEIGHT // 12, WIDTH // 12, 3), np.uint8)
    rgb = cv2.resize(coarse, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC)
    return Picture(np.asarray(cv2.cvtColor(rgb, cv2.COLOR_RGB2YUV_I420), np.uint8))


def soft_weights() -> F32:
    weights = np.zeros((R, R), np.float32)
    weights[14:54, 10:54] = 1.0
    return np.asarray(cv2.GaussianBlur(weights, (11, 11), 2.5), np.float32)


def affine_of(scale: float, angle: float = 0.0, x: float = -20.0, y: float = -10.0) -> F32:
    cos, sin = scale * np.cos(angle), scale * np.sin(angle)
    return np.array([[cos, -sin, x], [sin, cos, y]], np.float32)


def warp_of(dx: float = 0.0, dy: float = 0.0, cover: float = 0.0) -> SourceWarp:
    motion = np.empty((CELLS, CELLS, 2), np.float32)
    motion[:] = dx, dy
    return SourceWarp(motion, np.full((4 * CELLS, 4 * CELLS), cover, np.float32))


def random_warp(seed: int = 0) -> SourceWarp:
    random = np.random.default_rng(seed)
    coarse = random.uniform(-0.6, 0.6, (3, 3, 2)).astype(np.float32)
    motion = cv2.resize(coarse, (CELLS, CELLS), interpolation=cv2.INTER_CUBIC)
    blobs = random.uniform(0.0, 1.0, (4, 4)).astype(np.float32)
    cover = cv2.resize(blobs, (4 * CELLS, 4 * CELLS), interpolation=cv2.INTER_LINEAR)
    return SourceWarp(np.asarray(motion, np.float32), np.asarray(cover, np.float32))


@pytest.mark.parametrize("factor", [0.4, 1.0])
@pytest.mark.parametrize("affine", [affine_of(0.8, 0.3), affine_of(1.3, -0.2, -60.0, -31.7)])
def test_a_still_warp_without_cover_gives_the_picture_byte_for_byte(
    affine: F32, factor: float
) -> None:
    picture, mask = noise(), PasteMask.of(soft_weights())
    pasted = paste_crop(picture, BLACK, mask, affine, factor, warp_of())
    assert np.array_equal(pasted.i420, picture.i420)


@pytest.mark.parametrize("affine", [affine_of(0.8, 0.3), affine_of(0.5, -1.2, 10.0, 20.0)])
def test_no_byte_outside_of_the_mask_changes(affine: F32) -> None:
    picture, weights = noise(), soft_weights()
    warp = warp_of(MAX_MOTION_CELLS, -MAX_MOTION_CELLS, 1.0)
    pasted = paste_crop(picture, BLACK, PasteMask.of(weights), affine, 1.0, warp)
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    shown = cv2.warpAffine(weights, affine, (WIDTH, HEIGHT), flags=flags)
    # A chroma sample lies between four of luma and shows where any of them does.
    halves = shown.reshape(HEIGHT // 2, 2, WIDTH // 2, 2).max(axis=(1, 3))
    (luma, chroma), (before, chroma_before) = planes(pasted.i420), planes(picture.i420)
    assert np.array_equal(luma[shown == 0.0], before[shown == 0.0])
    assert np.array_equal(chroma[:, halves == 0.0], chroma_before[:, halves == 0.0])
    assert (luma[shown > 0.999] == 16).all()


def test_half_a_cell_is_a_whole_number_of_pixels_of_a_larger_picture() -> None:
    # Two picture pixels a crop pixel: half a cell of 8 crop pixels is 8 picture pixels, exactly.
    picture, mask = noise(), PasteMask.of(soft_weights())
    pasted = paste_crop(picture, BLACK, mask, affine_of(0.5), 1.0, warp_of(0.5, -0.5))
    luma, chroma = planes(pasted.i420)
    before, chroma_before = planes(picture.i420)
    middle = slice(70, 90), slice(75, 105)  # where the mask is all there
    assert np.array_equal(luma[middle], before[62:82, 83:113])
    assert np.array_equal(chroma[:, 36:44, 40:50], chroma_before[:, 32:40, 44:54])


def test_motion_follows_the_turn_of_the_face() -> None:
    # The crop's x axis points down in the picture: a quarter turn.
    picture, mask = noise(), PasteMask.of(soft_weights())
    affine = np.array([[0.0, 1.0, -30.0], [-1.0, 0.0, 110.0]], np.float32)
    pasted = paste_crop(picture, BLACK, mask, affine, 1.0, warp_of(1.0, 0.0))
    luma, before = planes(pasted.i420)[0], planes(picture.i420)[0]
    assert np.array_equal(luma[55:65, 70:80], before[63:73, 70:80])


@pytest.mark.parametrize("seed", range(2))
def test_the_picture_is_what_composing_the_crop_gives(seed: int) -> None:
    picture, affine, weights = smooth(seed), affine_of(0.9, 0.15), soft_weights()
    source, warp = crop_face(picture, affine, R), random_warp(seed)
    decoded = np.roll(source, 11, axis=0)
    pasted = paste_crop(picture, decoded, PasteMask.of(weights), affine, 1.0, warp)
    want = compose(source, decoded, warp, weights)
    apart = np.abs(crop_face(pasted, affine, R).astype(int) - want)
    assert np.abs(want.astype(int) - source).mean() > 5.0
    assert apart.mean() < 1.5  # chroma is stored at half the resolution
    assert np.percentile(apart, 99) <= 8


def test_a_smaller_factor_moves_the_picture_less_far_instead_of_mixing_two() -> None:
    picture, mask = noise(), PasteMask.of(soft_weights())
    half = paste_crop(picture, BLACK, mask, affine_of(0.5), 0.5, warp_of(0.5, 0.0))
    middle = slice(70, 90), slice(75, 105)
    assert np.array_equal(half.luma[middle], picture.luma[70:90, 79:109])
    assert paste_crop(picture, BLACK, mask, affine_of(0.5), 0.0, warp_of(0.5)) is picture


def test_detail_of_the_picture_is_moved_and_not_blurred() -> None:
    picture, mask = noise(), PasteMask.of(soft_weights())
    pasted = paste_crop(picture, BLACK, mask, affine_of(0.9), 1.0, warp_of(0.3, 0.45))
    middle = slice(40, 60), slice(45, 70)
    assert pasted.luma[middle].std() > 0.7 * picture.luma[middle].std()


@pytest.mark.parametrize("shift", [(0.0, 0.0), (-105.0, -70.0), (-500.0, 0.0)])
def test_what_lies_beyond_the_picture_repeats_its_edge(shift: tuple[float, float]) -> None:
    picture = Picture(np.full((HEIGHT * 3 // 2, WIDTH), 90, np.uint8))
    mask = PasteMask.of(np.ones((R, R), np.float32))
    for sign in (-1.0, 1.0):
        warp = warp_of(sign * MAX_MOTION_CELLS, sign * MAX_MOTION_CELLS)
        pasted = paste_crop(picture, BLACK, mask, affine_of(1.0, 0.0, *shift), 1.0, warp)
        assert np.array_equal(pasted.i420, picture.i420)
