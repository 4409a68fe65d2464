"""Crops of the bundled avatars while they babble, as the published models see a face."""

from __future__ import annotations

import cv2
import numpy as np
import torch
from torch import Tensor

from engine.face.align import align_affine, latentsync_face
from engine.face.paste_back import square_affine
from engine.media import F32, U8
from training.faces.avatars import Cast, cast
from training.faces.talking import render_talking
from training.faces.tracks import babble_track

NAMES = tuple(member.name for member in cast())


def talking_crops(name: str, resolution: int, frames: int, seed: int) -> U8:
    """[frames, R, R, 3] consecutive frames at 25 fps: head, eyes and mouth move.

    Args:
        name: of a bundled avatar.
        seed: of what it babbles.
    """
    member = _member(name)
    rng = np.random.default_rng(seed)
    pictures, points = render_talking(member, babble_track(frames, rng))
    face = latentsync_face(resolution)
    crops = [
        _crop(picture, square_affine(align_affine(own, face), face, resolution), resolution)
        for picture, own in zip(pictures, points, strict=True)
    ]
    return np.stack(crops)


def as_network_sees(crops: U8) -> Tensor:
    """[n, 3, R, R] in [-1, 1] of pictures [n, R, R, 3]."""
    return torch.from_numpy(crops).permute(0, 3, 1, 2).contiguous().float() / 127.5 - 1.0


def _crop(picture: U8, affine: F32, resolution: int) -> U8:
    size = (resolution, resolution)
    border = cv2.BORDER_REPLICATE
    return np.asarray(cv2.warpAffine(picture, affine, size, borderMode=border), np.uint8)


def _member(name: str) -> Cast:
    return next(member for member in cast() if member.name == name)
