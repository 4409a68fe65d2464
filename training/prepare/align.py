"""Aligned face crops of one clip, as the network will see them when it serves."""

from __future__ import annotations

import cv2
import numpy as np

from engine.errors import VideoFormatError
from engine.face.align import SmoothingState, align_affine
from engine.face.restore import crop_aligned
from engine.media import F32, U8, Picture
from engine.spec import FaceSpec


class ClipAligner:
    """Crops frame after frame; the smoothing of the affine begins with the clip.

    Args:
        face: the template.
        resolution: of the crops.
    """

    def __init__(self, face: FaceSpec, resolution: int) -> None:
        self._face = face
        self._resolution = resolution
        self._smoothing = SmoothingState()

    def crop(self, picture: Picture, points: F32) -> U8:
        """uint8 RGB [resolution, resolution, 3]."""
        rgb = np.asarray(cv2.cvtColor(picture.i420, cv2.COLOR_YUV2RGB_I420), np.uint8)
        affine = align_affine(points, self._face, self._smoothing)
        return crop_aligned(rgb, affine, self._face, self._resolution)


def face_luma(picture: Picture, points: F32, face: FaceSpec) -> U8:
    """The picture's own luma around a face, upright and not resampled: what quality is read off.

    Raises:
        VideoFormatError: nothing of the face lies in the picture.
    """
    affine = align_affine(points, face).astype(np.float64)
    back = np.asarray(cv2.invertAffineTransform(affine))
    width, height = face.crop_width, face.crop_height
    corners = np.array([[0, 0], [width, 0], [width, height], [0, height]], np.float64)
    places = corners @ back[:, :2].T + back[:, 2]
    left, top = np.maximum(np.floor(places.min(axis=0)), 0).astype(int)
    right, bottom = np.ceil(places.max(axis=0)).astype(int)
    part = picture.luma[top : max(bottom, 0), left : max(right, 0)]
    if min(part.shape) < 16:
        raise VideoFormatError(f"expected a face in the picture, got {part.shape} pixels of it")
    return part.copy()
