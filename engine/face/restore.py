"""LatentSync's own crop and paste-back, exactly: the way of the published weights.

Interpolation is written out, because OpenCV's warps round positions to 1/32
pixel: up to four levels off in a crop.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from engine.media import F32, U8
from engine.spec import FaceSpec

F64 = NDArray[np.float64]

OUTSIDE = 127.0  # what a warp shows where its source ends
ROUNDING = 1e-9  # levels: what double precision loses must not cost one by truncation
EDGE_SHARE = 20  # the soft edge is this part of the face's size


def crop_aligned(image: U8, affine: F32, face: FaceSpec, resolution: int) -> U8:
    """The face crop that the network reads, [resolution, resolution, 3].

    Args:
        image: RGB [h, w, 3].
        affine: [2, 3] from picture to crop pixels (`engine.face.align`).
        face: whose `crop_width` and `crop_height` the warped crop has.
    """
    size = (face.crop_height, face.crop_width)
    crop = _warp(image, _inverse(affine), size, OUTSIDE).astype(np.uint8)
    resized = cv2.resize(crop, (resolution, resolution), interpolation=cv2.INTER_LANCZOS4)
    return np.asarray(resized, np.uint8)


def paste_aligned(image: U8, generated: F32, affine: F32, face: FaceSpec) -> U8:
    """The picture with a whole generated crop blended in, its edges soft.

    Args:
        image: RGB [h, w, 3].
        generated: [3, R, R] in about [-1, 1], not clamped.
        affine: [2, 3] from picture to crop pixels.
    """
    height, width = image.shape[:2]
    rows = bicubic_weights(generated.shape[1], face.crop_height)
    columns = bicubic_weights(generated.shape[2], face.crop_width)
    resized = np.moveaxis(rows @ generated.astype(np.float32) @ columns.T, 0, 2)
    matrix = np.asarray(affine, np.float64)
    warped = _warp(resized, matrix, (height, width), OUTSIDE)
    pasted = np.clip(warped / 2.0 + 0.5, 0.0, 1.0) * 255.0
    ones = np.ones((*resized.shape[:2], 1))
    covered = _warp(ones, matrix, (height, width), 0.0)[..., 0]
    eroded = np.asarray(cv2.erode(covered, np.ones((2, 2), np.uint8)), np.float64)
    soft = _soft_edge(eroded)[..., None]
    mixed = soft * (eroded[..., None] * pasted) + (1.0 - soft) * image
    return np.clip(mixed + ROUNDING, 0.0, 255.0).astype(np.uint8)


def _soft_edge(mask: F64) -> F64:
    """The mask, eroded and blurred by a share of its size."""
    edge = int(np.sqrt(mask.sum())) // EDGE_SHARE
    if edge == 0:
        return mask
    inner = cv2.erode(mask, np.ones((2 * edge, 2 * edge), np.uint8))
    # The published kernel is float32. Where its sum falls short of 1, a white pixel
    # loses a level to truncation; a kernel in double precision would keep it.
    sigma = np.float32(0.3 * (edge - 1) + 0.8)
    places = np.arange(-edge, edge + 1, dtype=np.float32)
    kernel = np.exp(-(places**2) / (np.float32(2.0) * sigma**2))
    kernel = (kernel / kernel.sum()).astype(np.float64)
    blurred = cv2.sepFilter2D(inner, -1, kernel, kernel, borderType=cv2.BORDER_REFLECT_101)
    return np.asarray(blurred, np.float64)


def _inverse(affine: F32) -> F64:
    """The affine back, [2, 3]."""
    return np.asarray(cv2.invertAffineTransform(np.asarray(affine, np.float64)))


def _warp(source: NDArray[Any], matrix: F64, size: tuple[int, int], fill: float) -> F64:
    """Bilinear samples of `source` [h, w, c] at `matrix` of every pixel of `size` (h, w).

    Pixel centres are integers. The source ends in zeros over one pixel, and
    what it does not cover is filled.
    """
    rows, columns = np.indices(size, dtype=np.float64)
    x = matrix[0, 0] * columns + matrix[0, 1] * rows + matrix[0, 2]
    y = matrix[1, 0] * columns + matrix[1, 1] * rows + matrix[1, 2]
    left, top = np.floor(x), np.floor(y)
    right_share, lower_share = x - left, y - top
    height, width, channels = source.shape
    framed = np.zeros((height + 2, width + 2, channels + 1))
    framed[1:-1, 1:-1, :-1] = source
    framed[1:-1, 1:-1, -1] = 1.0
    total = np.zeros((*size, channels + 1))
    for down, row_share in ((0, 1.0 - lower_share), (1, lower_share)):
        row = np.clip(top + 1 + down, 0, height + 1).astype(np.intp)
        for along, column_share in ((0, 1.0 - right_share), (1, right_share)):
            column = np.clip(left + 1 + along, 0, width + 1).astype(np.intp)
            total += framed[row, column] * (row_share * column_share)[..., None]
    return np.asarray(total[..., :-1] + (1.0 - total[..., -1:]) * fill)


def bicubic_weights(source: int, target: int) -> F32:
    """[target, source] antialiased bicubic resizing (a = -0.5), half-pixel centres."""
    scale = source / target
    stretch = max(scale, 1.0)
    centres = (np.arange(target) + 0.5) * scale
    first = np.maximum(np.trunc(centres - 2.0 * stretch + 0.5), 0)
    last = np.minimum(np.trunc(centres + 2.0 * stretch + 0.5), source)
    places = np.arange(source)
    distance = np.abs((places - centres[:, None] + 0.5) / stretch)
    near = (1.5 * distance - 2.5) * distance**2 + 1.0
    far = -0.5 * (((distance - 5.0) * distance + 8.0) * distance - 4.0)
    weights = np.where(distance < 1.0, near, np.where(distance < 2.0, far, 0.0))
    weights *= (places >= first[:, None]) & (places < last[:, None])
    return np.asarray(weights / weights.sum(axis=1, keepdims=True), np.float32)
