"""How the source picture moves below a generated face, and where that face covers it.

A codec of a few latents blurs skin and beards. A model with `UNetSpec.source_warp` therefore draws
lips and the inside of the mouth only: beside the latents it predicts, for every cell (the pixels of
one latent), where the picture's own pixels come from and how much of the decoded picture shows.

The network's warp channels, in their order:

    0, 1     dx, dy in cells: the generated picture shows at crop pixel q the source at q + cell * d
    2 .. 17  logits of the cover, `COVER_CELLS` rows of `COVER_CELLS` values (a pixel shuffle)

Both fields are sampled at the middle of their cells and are enlarged bilinearly, edges repeated.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from engine.errors import VideoFormatError
from engine.media import F32, U8
from engine.spec import COVER_CELLS, WARP_CHANNELS

# Cells that a pixel may come from, along either axis: a jaw moves by two at most, and what a bad
# prediction asks for beyond would tear the face.
MAX_MOTION_CELLS = 3.0


@dataclass(frozen=True, slots=True)
class SourceWarp:
    """One frame's warp, on a square of s x s cells.

    Attributes:
        motion: float32 [s, s, 2], dx and dy in cells, from a generated pixel to its source.
        cover: float32 [4 s, 4 s], 1.0 = the decoded picture shows, 0.0 = the moved source.
    """

    motion: F32
    cover: F32

    @classmethod
    def of(cls, channels: F32) -> SourceWarp:
        """The warp in a network's channels [18, s, s], its motion held within the maximum.

        Raises:
            VideoFormatError: channels of another shape.
        """
        if channels.ndim != 3 or channels.shape[0] != WARP_CHANNELS:
            raise VideoFormatError(
                f"expected warp channels [{WARP_CHANNELS}, s, s], got {channels.shape}"
            )
        rows, columns = channels.shape[1:]
        motion = channels[:2].transpose(1, 2, 0).clip(-MAX_MOTION_CELLS, MAX_MOTION_CELLS)
        cells = channels[2:].reshape(COVER_CELLS, COVER_CELLS, rows, columns)
        logits = cells.transpose(2, 0, 3, 1).reshape(COVER_CELLS * rows, COVER_CELLS * columns)
        cover = 0.5 + 0.5 * np.tanh(0.5 * logits)  # the sigmoid, without its overflow
        return cls(np.ascontiguousarray(motion, np.float32), np.asarray(cover, np.float32))

    def at(self, resolution: int) -> tuple[F32, F32]:
        """The motion in crop pixels, float32 [R, R, 2], and the cover, float32 [R, R]."""
        size = (resolution, resolution)
        cell = resolution / len(self.motion)
        motion = cv2.resize(self.motion, size, interpolation=cv2.INTER_LINEAR)
        cover = cv2.resize(self.cover, size, interpolation=cv2.INTER_LINEAR)
        return np.asarray(motion * cell, np.float32), np.asarray(cover, np.float32)


def compose(source: U8, decoded: U8, warp: SourceWarp, share: F32 | None = None) -> U8:
    """The generated crop: the moved source below, the decoded picture where it covers.

    Args:
        source, decoded: uint8 [R, R, 3].
        share: float32 [R, R], how far the crop goes from the source, 0.0, to what is generated,
            1.0; None: all the way. Less of it moves pixels less far and covers them less, so that
            nothing is seen twice on the way.

    Returns:
        uint8 [R, R, 3].
    """
    resolution = len(source)
    motion, cover = warp.at(resolution)
    if share is not None:
        motion, cover = motion * share[..., None], cover * share
    below = moved(source, 0, 0, motion, cv2.INTER_LINEAR).astype(np.float32)
    mixed = below + cover[..., None] * (decoded - below)
    return np.asarray(np.rint(mixed), np.uint8)


def moved(picture: U8, left: int, top: int, shift: F32, interpolation: int) -> U8:
    """A part of a picture whose pixels come from elsewhere in it.

    Args:
        picture: uint8 [H, W] or [H, W, channels].
        left, top: where the part begins.
        shift: float32 [h, w, 2], how far away each of its pixels comes from; beyond the picture
            its edges are repeated.
        interpolation: one of OpenCV's.

    Returns:
        uint8 [h, w] or [h, w, channels].
    """
    height, width = shift.shape[:2]
    columns = np.arange(left, left + width, dtype=np.float32)
    rows = np.arange(top, top + height, dtype=np.float32)
    pixels = cv2.remap(
        picture,
        shift[..., 0] + columns,
        shift[..., 1] + rows[:, None],
        interpolation,
        borderMode=cv2.BORDER_REPLICATE,
    )
    return np.asarray(pixels, np.uint8)
