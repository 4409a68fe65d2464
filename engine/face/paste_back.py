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
from numpy.typing import NDArray

from engine.errors import VideoFormatError
from engine.face.warp import SourceWarp, moved
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
UNSEEN_COVER = 1 / 512  # opacity that changes no level by more than a half
UNSEEN_SHIFT = 1 / 64  # picture pixels: OpenCV rounds places to 1 / 32, this to nothing


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

    def halved(self) -> Box:
        """The same part of a chroma plane."""
        return Box(self.left // 2, self.top // 2, self.right // 2, self.bottom // 2)

    def of(self, plane: U8) -> U8:
        """A view of that part of a plane."""
        return plane[self.top : self.bottom, self.left : self.right]


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
        return cls(weights, _corners_of(weights > 0.0), keep_detail)


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
    patch_luma[:] = box.of(luma)
    for index in (0, 1):
        patch_chroma[index] = box.halved().of(chroma[index])
    crop = cv2.warpAffine(
        cv2.cvtColor(patch, cv2.COLOR_YUV2RGB_I420),
        _from_corner(affine, box),
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
    if factor <= 0.0 or _box_around(mask.corners, affine, picture, margin=1).empty:
        return picture
    result = Picture(picture.i420.copy())
    generated = _yuv(crop)
    share = (mask.weights * np.float32(factor))[..., None]
    corners = mask.corners
    if warp is not None:
        motion, cover = warp.at(crop.shape[0])
        _move(picture, result, share * motion, affine)
        opacity: F32 = share * cover[..., None]
        paint: F32 = opacity * generated
        corners = _corners_of(opacity[..., 0] > UNSEEN_COVER)
    elif mask.keep_detail:
        own = _yuv(crop_face(picture, affine, crop.shape[0]))
        change, replaced = _detail(generated, own)
        opacity = share * replaced
        paint = opacity * generated + (share - opacity) * change
    else:
        opacity, paint = share, share * generated
    _lay(result, np.concatenate([paint, opacity], axis=2), corners, affine)
    return result


def _move(picture: Picture, result: Picture, motion: F32, affine: F32) -> None:
    """Writes the picture's own pixels to `result` from where `motion` says.

    Args:
        motion: float32 [R, R, 2] from a crop pixel to its source, in crop pixels.
    """
    shift = _f32(motion @ np.linalg.inv(affine[:, :2]).T)
    far = np.abs(shift) > UNSEEN_SHIFT
    box = _box_around(_corners_of(far[..., 0] | far[..., 1]), affine, picture, margin=1)
    if box.empty:
        return
    fine = _warped(shift, affine, box)
    coarse = _halved(fine) * np.float32(0.5)
    (luma, chroma), (to_luma, to_chroma) = planes(picture.i420), planes(result.i420)
    box.of(to_luma)[:] = moved(luma, box.left, box.top, fine, cv2.INTER_CUBIC)
    half = box.halved()
    for plane, target in zip(chroma, to_chroma, strict=True):
        half.of(target)[:] = moved(plane, half.left, half.top, coarse, cv2.INTER_LINEAR)


def _lay(result: Picture, layers: F32, corners: F32, affine: F32) -> None:
    """Blends float32 [R, R, 4], YUV times opacity and the opacity, into a picture, in place."""
    box = _box_around(corners, affine, result, margin=1)
    if box.empty:
        return
    fine = _warped(layers, affine, box)
    coarse = _halved(fine)
    luma, chroma = planes(result.i420)
    _blend(box.of(luma), fine[..., 0], fine[..., 3])
    for index in (0, 1):
        _blend(box.halved().of(chroma[index]), coarse[..., 1 + index], coarse[..., 3])


def _warped(layers: F32, affine: F32, box: Box) -> F32:
    """[h, w, n] of crop layers [R, R, n] in a box of the picture; nothing beyond the crop."""
    size = (box.right - box.left, box.bottom - box.top)
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return _f32(cv2.warpAffine(layers, _from_corner(affine, box), size, flags=flags))


def _halved(layers: F32) -> F32:
    """[h / 2, w / 2, n]: what the chroma samples see of [h, w, n]."""
    half = (layers.shape[1] // 2, layers.shape[0] // 2)
    return _f32(cv2.resize(layers, half, interpolation=cv2.INTER_AREA))


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


def _corners_of(shown: NDArray[np.bool_]) -> F32:
    """float32 [4, 2], the corners of the box around what is True; [0, 2] if nothing is."""
    rows, columns = np.flatnonzero(shown.any(axis=1)), np.flatnonzero(shown.any(axis=0))
    if not len(rows):
        return np.zeros((0, 2), np.float32)
    left, right = columns[0] - 1, columns[-1] + 1
    top, bottom = rows[0] - 1, rows[-1] + 1
    return np.array([[left, top], [right, top], [right, bottom], [left, bottom]], np.float32)


def _from_corner(affine: F32, box: Box) -> F32:
    """The same affine, read from the box's corner."""
    moved = np.array(affine, np.float64)
    moved[:, 2] += moved[:, :2] @ np.array([box.left, box.top], np.float64)
    return moved.astype(np.float32)


def _box_around(corners: F32, affine: F32, picture: Picture, margin: int) -> Box:
    if not len(corners):
        return Box(0, 0, 0, 0)
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
