"""Face crops out of I420 pictures and back into them.

Both ways touch only the bounding box of the crop. The generated crop is turned
into YUV once, warped into the box and blended there by the warped soft mask:
no byte outside of the mask changes, and no full picture takes a trip through RGB.

A codec of a few latents smooths skin and beards, which shows against the
picture around. So where the generated face agrees with the picture's own at
low frequencies (cheeks, chin, resting lips), the picture keeps its pixels and
takes only the change of shade; where it differs (the speaking mouth), the
generated one shows. A model that predicts a warp needs no such guess: the
picture's own pixels are moved at their full resolution, and the generated
ones cover them where the model says so.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from engine.errors import VideoFormatError
from engine.face.warp import SourceWarp, moved_plane
from engine.media import F32, U8, Picture
from engine.spec import FaceSpec

# BT.601, limited range: RGB 0..255 to Y 16..235, U and V 16..240.
_RGB_TO_YUV: F32 = np.array(
    [
        [0.256788, 0.504129, 0.097906, 16.0],
        [-0.148223, -0.290993, 0.439216, 128.0],
        [0.439216, -0.367788, -0.071427, 128.0],
    ],
    np.float32,
)
OUTSIDE = 127  # grey that a crop shows where it reaches beyond the picture
SHADE_SIGMA = 1.5 / 128  # of the crop's side: what is coarser is shade, what is finer detail
# Difference of the shades, in levels of Y, U or V: below, the picture's detail stays; above,
# nothing of it. Lips that part by two crop pixels must show.
SHADE_ALIKE, SHADE_OTHER = 7.0, 18.0


@dataclass(frozen=True, slots=True)
class Box:
    """A part of a picture with even edges, so that it holds whole chroma samples."""

    left: int
    top: int
    right: int
    bottom: int

    @property
    def empty(self) -> bool:
        return self.right <= self.left or self.bottom <= self.top


@dataclass(frozen=True, slots=True)
class PasteMask:
    """The soft mask in crop space.

    Attributes:
        weights: float32 [R, R], 1.0 = generated, 0.0 = the picture.
        corners: float32 [4, 2], the corners of the box that holds all non-zero weights.
        keep_detail: the picture's own detail stays where the generated face agrees with it;
            unused where there is a warp.
    """

    weights: F32
    corners: F32
    keep_detail: bool

    @classmethod
    def of(cls, weights: F32, *, keep_detail: bool = True) -> PasteMask:
        """A mask from its weights.

        Raises:
            VideoFormatError: `weights` is no square of float32, or all zero.
        """
        if weights.dtype != np.float32 or weights.ndim != 2 or not weights.any():
            raise VideoFormatError(
                f"expected a float32 [R, R] mask with some weight, got {weights.dtype} "
                f"{weights.shape}"
            )
        rows = np.flatnonzero(weights.any(axis=1))
        columns = np.flatnonzero(weights.any(axis=0))
        left, right = columns[0] - 1, columns[-1] + 1
        top, bottom = rows[0] - 1, rows[-1] + 1
        corners = np.array([[left, top], [right, top], [right, bottom], [left, bottom]], np.float32)
        return cls(weights, corners, keep_detail)


def square_affine(affine: F32, face: FaceSpec, resolution: int) -> F32:
    """The affine from picture to network pixels, [2, 3] float32.

    Args:
        affine: from picture pixels to the warped crop of `face` (`align_affine`).
        resolution: R, the square that the warped crop is resized to.
    """
    scale = np.array([resolution / face.crop_width, resolution / face.crop_height])
    result = np.asarray(affine, np.float64) * scale[:, None]
    result[:, 2] += 0.5 * scale - 0.5  # resizing keeps edges, not pixel centres
    return np.asarray(result, np.float32)


def planes(i420: U8) -> tuple[U8, U8]:
    """Views of the Y plane [h, w] and of the U and V planes [2, h / 2, w / 2]."""
    height, width = i420.shape[0] * 2 // 3, i420.shape[1]
    return i420[:height], i420[height:].reshape(2, height // 2, width // 2)


def crop_face(picture: Picture, affine: F32, resolution: int) -> U8:
    """The face crop that the network reads: uint8 RGB [R, R, 3].

    Args:
        affine: [2, 3] from picture to crop pixels, pixel centres at integers.
        resolution: R.
    """
    size = resolution - 1.0
    corners = np.array([[0, 0], [size, 0], [size, size], [0, size]], np.float32)
    box = _box_around(corners, affine, picture, margin=2)
    if box.empty:
        return np.full((resolution, resolution, 3), OUTSIDE, np.uint8)
    luma, chroma = planes(picture.i420)
    width, height = box.right - box.left, box.bottom - box.top
    patch = np.empty((height * 3 // 2, width), np.uint8)
    patch_luma, patch_chroma = planes(patch)
    patch_luma[:] = luma[box.top : box.bottom, box.left : box.right]
    patch_chroma[:] = chroma[:, box.top // 2 : box.bottom // 2, box.left // 2 : box.right // 2]
    crop = cv2.warpAffine(
        cv2.cvtColor(patch, cv2.COLOR_YUV2RGB_I420),
        _moved(affine, box),
        (resolution, resolution),
        flags=cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_CONSTANT,
        borderValue=(OUTSIDE, OUTSIDE, OUTSIDE),
    )
    return np.asarray(crop, np.uint8)


def paste_crop(
    picture: Picture,
    crop: U8,
    mask: PasteMask,
    affine: F32,
    factor: float = 1.0,
    warp: SourceWarp | None = None,
) -> Picture:
    """The picture with the generated crop blended in.

    Args:
        crop: uint8 RGB [R, R, 3].
        mask: what of the crop is shown.
        affine: [2, 3] from picture to crop pixels.
        factor: share of the generated mouth, 0.0 (the picture itself comes back) to 1.0.
        warp: how the picture moves below the crop. Towards the mask's edge and with a smaller
            factor it moves less far, so that it goes over into the picture around, and into the
            one before and after, without anything being seen twice.

    Raises:
        VideoFormatError: crop and mask differ in size.
    """
    if crop.shape != (*mask.weights.shape, 3):
        raise VideoFormatError(f"expected a crop of {mask.weights.shape}, got {crop.shape}")
    box = _box_around(mask.corners, affine, picture, margin=1)
    if factor <= 0.0 or box.empty:
        return picture
    generated = _yuv(crop)
    share = (mask.weights * np.float32(factor))[..., None]
    shift: F32 | None = None
    if warp is not None:
        motion, cover = warp.at(crop.shape[0])
        opacity: F32 = share * cover[..., None]
        paint: F32 = opacity * generated
        shift = share * (motion @ np.linalg.inv(affine[:, :2]).T)
    elif mask.keep_detail:
        own = _yuv(crop_face(picture, affine, crop.shape[0]))
        change, replaced = _detail(generated, own)
        opacity = share * replaced
        paint = opacity * generated + (share - opacity) * change
    else:
        opacity, paint = share, share * generated
    size = (box.right - box.left, box.bottom - box.top)
    moved = _moved(affine, box)
    layers = np.concatenate([paint, opacity], axis=2)
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    fine = _f32(cv2.warpAffine(layers, moved, size, flags=flags))
    coarse = _f32(cv2.resize(fine, (size[0] // 2, size[1] // 2), interpolation=cv2.INTER_AREA))
    result = picture.i420.copy()
    luma, chroma = planes(result)
    if shift is not None:
        _move(picture, result, box, _f32(cv2.warpAffine(shift, moved, size, flags=flags)))
    _blend(luma[box.top : box.bottom, box.left : box.right], fine[..., 0], fine[..., 3])
    for index in (0, 1):
        plane = chroma[index, box.top // 2 : box.bottom // 2, box.left // 2 : box.right // 2]
        _blend(plane, coarse[..., 1 + index], coarse[..., 3])
    return Picture(result)


def _move(picture: Picture, result: U8, box: Box, shift: F32) -> None:
    """Fills a box of `result` with pixels of the picture from `shift` [h, w, 2] away."""
    half = (shift.shape[1] // 2, shift.shape[0] // 2)
    coarse = _f32(cv2.resize(shift, half, interpolation=cv2.INTER_AREA)) / np.float32(2.0)
    places = [(box.left, box.top, shift), *[(box.left // 2, box.top // 2, coarse)] * 2]
    (luma, chroma), (to_luma, to_chroma) = planes(picture.i420), planes(result)
    for plane, target, (left, top, own) in zip(
        (luma, *chroma), (to_luma, *to_chroma), places, strict=True
    ):
        height, width = own.shape[:2]
        target[top : top + height, left : left + width] = moved_plane(plane, left, top, own)


def _detail(generated: F32, own: F32) -> tuple[F32, F32]:
    """What turns the picture's shade into the generated one, and where that is not enough.

    Args:
        generated, own: float32 YUV [R, R, 3].

    Returns:
        float32 [R, R, 3], the change of shade, and [R, R, 1], 1.0 where the generated face
        must be shown itself.
    """
    size = generated.shape[0]
    half = (size // 2, size // 2)
    small = _f32(cv2.resize(generated - own, half, interpolation=cv2.INTER_AREA))
    small = _blurred(small, SHADE_SIGMA * half[0])
    reach = max(int(0.04 * half[0]), 1)
    differs = cv2.dilate(np.abs(small).max(axis=2), np.ones((reach, reach), np.uint8))
    differs = _blurred(_f32(differs), 0.016 * half[0])
    level = np.clip((differs - SHADE_ALIKE) / (SHADE_OTHER - SHADE_ALIKE), 0.0, 1.0)
    layers = np.dstack([small, level * level * (3.0 - 2.0 * level)])
    layers = _f32(cv2.resize(layers, (size, size), interpolation=cv2.INTER_LINEAR))
    return layers[..., :3], layers[..., 3:]


def _yuv(crop: U8) -> F32:
    return _f32(cv2.transform(crop.astype(np.float32), _RGB_TO_YUV))


def _blurred(array: F32, sigma: float) -> F32:
    return _f32(cv2.GaussianBlur(array, (0, 0), sigma))


def _f32(array: object) -> F32:
    return np.asarray(array, np.float32)


def _blend(target: U8, paint: F32, opacity: F32) -> None:
    mixed = target * (1.0 - opacity) + paint
    target[:] = np.clip(np.rint(mixed), 0, 255)


def _moved(affine: F32, box: Box) -> F32:
    """The same affine, read from the box's corner."""
    moved = np.array(affine, np.float64)
    moved[:, 2] += moved[:, :2] @ np.array([box.left, box.top], np.float64)
    return moved.astype(np.float32)


def _box_around(corners: F32, affine: F32, picture: Picture, margin: int) -> Box:
    inverse = np.asarray(cv2.invertAffineTransform(np.asarray(affine, np.float64)))
    points = corners.astype(np.float64) @ inverse[:, :2].T + inverse[:, 2]
    low = np.floor(points.min(axis=0)).astype(int) - margin
    high = np.ceil(points.max(axis=0)).astype(int) + 1 + margin
    return Box(
        left=max(int(low[0]), 0) // 2 * 2,
        top=max(int(low[1]), 0) // 2 * 2,
        right=min((int(high[0]) + 1) // 2 * 2, picture.width),
        bottom=min((int(high[1]) + 1) // 2 * 2, picture.height),
    )
