"""Which part of a face crop is generated.

1 means keep the picture and 0 means generate, as in LatentSync's network
input, and the opposite of common inpainting models. What is pasted back is
`paste_weights`: 1 means generated.
"""

from __future__ import annotations

import base64
import binascii

import cv2
import numpy as np
from numpy.typing import NDArray

from engine.errors import ConfigError
from engine.media import F32, U8
from engine.spec import MASK_PICTURE, FaceSpec, ModelSpec

F64 = NDArray[np.float64]

OUTLINE_SIZE = 256
FEATHER = 0.15  # of a superellipse's radius: from fully generated to not at all

# The published mask's outline. Data from the LatentSync repository (Apache License 2.0):
# from this row on, the first and the last generated column, until the next entry's row.
# Above row 128 two cheek bars leave the nose free.
_CHEEKS_ROWS = (95, 128)
_CHEEKS_COLUMNS = ((9, 77), (178, 246))
_OUTLINE_END = 243
# fmt: off
_OUTLINE = (
    (128, 9, 247),
    (135, 9, 246),
    (136, 10, 246),
    (149, 10, 245),
    (150, 11, 245),
    (163, 11, 244),
    (164, 12, 244),
    (170, 12, 243),
    (171, 13, 243),
    (172, 13, 242),
    (173, 14, 242),
    (174, 14, 241),
    (175, 15, 241),
    (176, 15, 240),
    (177, 16, 240),
    (178, 16, 239),
    (179, 17, 238),
    (180, 18, 238),
    (181, 18, 237),
    (182, 19, 236),
    (184, 20, 235),
    (185, 21, 234),
    (187, 22, 233),
    (188, 22, 232),
    (189, 23, 232),
    (190, 24, 231),
    (191, 25, 230),
    (192, 26, 230),
    (193, 26, 229),
    (194, 27, 228),
    (195, 28, 228),
    (196, 29, 227),
    (197, 30, 226),
    (198, 31, 225),
    (199, 32, 224),
    (200, 33, 223),
    (201, 34, 223),
    (202, 34, 222),
    (203, 35, 221),
    (204, 36, 220),
    (205, 37, 219),
    (206, 38, 218),
    (207, 39, 217),
    (208, 40, 216),
    (209, 42, 215),
    (210, 43, 214),
    (211, 44, 213),
    (212, 45, 212),
    (213, 47, 211),
    (214, 48, 210),
    (215, 49, 208),
    (216, 51, 207),
    (217, 52, 206),
    (218, 54, 204),
    (219, 56, 203),
    (220, 57, 202),
    (221, 59, 200),
    (222, 60, 199),
    (223, 62, 197),
    (224, 64, 196),
    (225, 66, 194),
    (226, 68, 192),
    (227, 70, 191),
    (228, 72, 189),
    (229, 74, 187),
    (230, 76, 185),
    (231, 78, 183),
    (232, 80, 180),
    (233, 82, 178),
    (234, 85, 175),
    (235, 87, 173),
    (236, 90, 171),
    (237, 93, 168),
    (238, 95, 166),
    (239, 99, 164),
    (240, 104, 160),
    (241, 108, 156),
    (242, 131, 152),
)
# fmt: on


def latentsync_outline() -> U8:
    """[256, 256] the published mask: 255 = keep, 0 = generate."""
    mask = np.full((OUTLINE_SIZE, OUTLINE_SIZE), 255, np.uint8)
    for first, last in _CHEEKS_COLUMNS:
        mask[_CHEEKS_ROWS[0] : _CHEEKS_ROWS[1], first : last + 1] = 0
    ends = [row for row, _, _ in _OUTLINE[1:]] + [_OUTLINE_END]
    for (row, first, last), end in zip(_OUTLINE, ends, strict=True):
        mask[row:end, first : last + 1] = 0
    return mask


def mask_from_picture(png: bytes) -> str:
    """`FaceSpec.mask` of a square picture that is white where the face is kept.

    Raises:
        ConfigError: it is no picture, not square, or keeps or generates nothing.
    """
    mask = MASK_PICTURE + base64.b64encode(png).decode("ascii")
    outline = _picture(mask)
    if outline.shape[0] != outline.shape[1]:
        rows, columns = outline.shape
        raise ConfigError(f"mask: expected a square picture, got {columns} x {rows}")
    if not (outline.min() < 128 <= outline.max()):
        raise ConfigError("mask: expected white where the face is kept and black where it is not")
    return mask


def _picture(mask: str) -> U8:
    """[n, n] the picture in a mask."""
    try:
        png = np.frombuffer(base64.b64decode(mask.removeprefix(MASK_PICTURE), validate=True), "u1")
        decoded = cv2.imdecode(png, cv2.IMREAD_GRAYSCALE) if len(png) else None
    except (binascii.Error, cv2.error):
        decoded = None
    if decoded is None:
        raise ConfigError("mask: expected a PNG picture, got something else")
    return np.asarray(decoded, np.uint8)


def keep_mask(face: FaceSpec, resolution: int) -> F32:
    """[resolution, resolution] 1 = keep, 0 = generate.

    An outline has soft edges where it was resized; a superellipse has hard
    ones. A picture is masked by multiplying, which leaves grey.

    Raises:
        ConfigError: the mask's picture cannot be read.
    """
    if isinstance(face.mask, str):
        outline = latentsync_outline() if face.mask == "latentsync" else _picture(face.mask)
        if resolution != len(outline):
            size = (resolution, resolution)
            outline = np.asarray(cv2.resize(outline, size, interpolation=cv2.INTER_LANCZOS4))
        return outline.astype(np.float32) / np.float32(255.0)
    return (_superellipse_level(face, resolution) > 1.0).astype(np.float32)


def mask_image(spec: ModelSpec) -> F32:
    """[R, R] 1 = keep, 0 = generate, for a model's crops."""
    return keep_mask(spec.face, spec.resolution)


def mask_latents(spec: ModelSpec) -> F32:
    """[s, s] the network's mask channel, 1 = keep: the corner pixel of every latent."""
    step = spec.codec.downscale
    return np.ascontiguousarray(mask_image(spec)[::step, ::step])


def paste_weights(face: FaceSpec, resolution: int) -> F32:
    """[resolution, resolution] how much of the generated crop shows: 1 inside, soft edges.

    Nothing shows outside of the generated part, where the decoder only repeats
    the picture.
    """
    if isinstance(face.mask, str):
        generated = 1.0 - keep_mask(face, resolution)
        radius = max(1, resolution // 64)
        kernel = np.ones((2 * radius + 1, 2 * radius + 1), np.uint8)
        inner = cv2.erode(generated, kernel, borderValue=0.0)
        soft = cv2.GaussianBlur(inner, (2 * radius + 1, 2 * radius + 1), 0)
        return np.asarray(np.minimum(soft, generated), np.float32)
    level = _superellipse_level(face, resolution)
    depth = np.clip((1.0 - level) / FEATHER, 0.0, 1.0)
    return np.asarray(depth * depth * (3.0 - 2.0 * depth), np.float32)


def _superellipse_level(face: FaceSpec, resolution: int) -> F64:
    """[resolution, resolution] 1 on the outline, growing linearly from its centre."""
    assert not isinstance(face.mask, str)
    centre_x, centre_y, radius_x, radius_y = face.mask
    places = (np.arange(resolution) + 0.5) / resolution
    x = np.abs(places - centre_x) / radius_x
    y = np.abs(places - centre_y) / radius_y
    power = face.mask_exponent
    level: F64 = (x[None, :] ** power + y[:, None] ** power) ** (1.0 / power)
    return level
