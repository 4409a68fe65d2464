"""Pasting back touches the mask only and puts the crop where it came from."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from engine.errors import VideoFormatError
from engine.face.paste_back import PasteMask, crop_face, paste_crop, planes, square_affine
from engine.media import F32, U8, Picture
from engine.spec import FaceSpec

R = 64


def _picture(height: int = 120, width: int = 160, seed: int = 0) -> Picture:
    noise = np.random.default_rng(seed).integers(0, 255, (height // 8, width // 8, 3))
    smooth = cv2.resize(noise.astype(np.uint8), (width, height), interpolation=cv2.INTER_CUBIC)
    return Picture(np.asarray(cv2.cvtColor(smooth, cv2.COLOR_RGB2YUV_I420), np.uint8))


def _mask(*, keep_detail: bool = True) -> PasteMask:
    weights = np.zeros((R, R), np.float32)
    weights[16:56, 8:56] = 1.0
    soft = np.asarray(cv2.GaussianBlur(weights, (9, 9), 2.0), np.float32)
    soft[0, :] = soft[-1, :] = soft[:, 0] = soft[:, -1] = 0.0
    return PasteMask.of(soft, keep_detail=keep_detail)


def _affine(scale: float = 0.9, angle: float = 0.2, x: float = -20.3, y: float = -9.6) -> F32:
    cos, sin = scale * np.cos(angle), scale * np.sin(angle)
    return np.array([[cos, -sin, x], [sin, cos, y]], np.float32)


def test_only_bytes_under_the_mask_change() -> None:
    picture = _picture()
    white: U8 = np.full((R, R, 3), 255, np.uint8)
    pasted = paste_crop(picture, white, _mask(), _affine())
    weights = cv2.warpAffine(
        _mask().weights, _affine(), (160, 120), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    )
    luma, _ = planes(pasted.i420)
    before, _ = planes(picture.i420)
    outside = weights < 1e-6
    assert np.array_equal(luma[outside], before[outside])
    assert (luma[weights > 0.999] == 235).all()
    assert pasted.i420 is not picture.i420


@pytest.mark.parametrize("affine", [_affine(), _affine(1.1, -0.3, 5.0, -10.5)])
def test_a_crop_put_back_unchanged_leaves_the_picture_as_it_was(affine: F32) -> None:
    picture = _picture()
    crop = crop_face(picture, affine, R)
    assert np.array_equal(paste_crop(picture, crop, _mask(), affine).i420, picture.i420)
    pasted = paste_crop(picture, crop, _mask(keep_detail=False), affine)
    difference = np.abs(pasted.i420.astype(int) - picture.i420.astype(int))
    assert difference.mean() < 0.6
    assert np.percentile(difference, 99.5) <= 12


def test_a_smoothed_crop_keeps_the_pictures_detail_and_takes_its_shade() -> None:
    picture = Picture(np.full((180, 160), 128, np.uint8))
    picture.luma[:] = np.random.default_rng(0).normal(128, 12, picture.luma.shape).astype(np.uint8)
    crop = crop_face(picture, _affine(), R)
    darker = np.clip(cv2.GaussianBlur(crop, (0, 0), 3.0).astype(int) - 4, 0, 255).astype(np.uint8)
    kept = paste_crop(picture, darker, _mask(), _affine())
    plain = paste_crop(picture, darker, _mask(keep_detail=False), _affine())
    inside = (slice(45, 65), slice(45, 65))

    def grain(luma: U8) -> float:
        smooth = cv2.GaussianBlur(luma, (0, 0), 2.0)
        return float((luma[inside].astype(int) - smooth[inside]).std())

    assert grain(plain.luma) < 0.3 * grain(picture.luma)
    assert grain(kept.luma) > 0.7 * grain(picture.luma)
    change = kept.luma[inside].mean() - picture.luma[inside].mean()
    assert -6.0 < change < -1.0


def test_an_open_mouth_shows_as_it_was_generated() -> None:
    picture = Picture(np.full((180, 160), 120, np.uint8))
    crop = crop_face(picture, _affine(), R)
    crop[28:44, 20:44] = 20
    kept = paste_crop(picture, crop, _mask(), _affine())
    plain = paste_crop(picture, crop, _mask(keep_detail=False), _affine())
    assert np.abs(kept.i420.astype(int) - plain.i420).max() <= 16  # at its edge only
    assert kept.luma.min() == plain.luma.min()


def test_a_grey_picture_keeps_its_exact_colour() -> None:
    i420 = np.full((180, 160), 120, np.uint8)
    picture = Picture(i420)
    pasted = paste_crop(picture, crop_face(picture, _affine(), R), _mask(), _affine())
    assert np.abs(pasted.i420.astype(int) - 120).max() <= 1


def test_the_factor_fades_between_picture_and_crop() -> None:
    picture = Picture(np.full((180, 160), 100, np.uint8))
    white: U8 = np.full((R, R, 3), 255, np.uint8)
    assert paste_crop(picture, white, _mask(), _affine(), 0.0) is picture
    half = paste_crop(picture, white, _mask(), _affine(), 0.5).luma.max()
    assert abs(int(half) - (100 + 235) // 2) <= 1


@pytest.mark.parametrize("shift", [(-500.0, 0.0), (0.0, 500.0), (40.0, 30.0), (-140.0, -90.0)])
def test_a_face_at_or_beyond_the_border_is_pasted_where_it_is_visible(
    shift: tuple[float, float],
) -> None:
    picture = _picture()
    affine = _affine(1.0, 0.0, *shift)
    crop = crop_face(picture, affine, R)
    assert crop.shape == (R, R, 3)
    pasted = paste_crop(picture, crop, _mask(), affine)
    assert pasted.i420.shape == picture.i420.shape


def test_resizing_to_the_network_is_folded_into_the_affine() -> None:
    face = FaceSpec(template=((0, 0), (1, 0), (0, 1)), crop_width=210, crop_height=280)
    affine = square_affine(np.array([[1, 0, 0], [0, 1, 0]], np.float32), face, 256)
    # The centre of the crop stays the centre, the corner's outer edge the corner's outer edge.
    assert np.allclose(affine @ np.array([104.5, 139.5, 1.0]), [127.5, 127.5], atol=1e-4)
    assert np.allclose(affine @ np.array([-0.5, -0.5, 1.0]), [-0.5, -0.5], atol=1e-4)


def test_crop_and_mask_must_agree() -> None:
    with pytest.raises(VideoFormatError, match=r"expected a crop of \(64, 64\)"):
        paste_crop(_picture(), np.zeros((32, 32, 3), np.uint8), _mask(), _affine())
    with pytest.raises(VideoFormatError, match="some weight"):
        PasteMask.of(np.zeros((R, R), np.float32), keep_detail=True)
