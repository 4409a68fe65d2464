"""How good a clip's pictures are, 0 to 100, without knowing what they should look like.

LatentSync's data was filtered by HyperIQA's scores (at 40), a network whose weights are its
authors'. `MeasuredQuality` is this project's own: a product of five measures, each 0 to 1 between
a value that is useless and one that needs no better. `docs/data-preparation.md` says how it falls
with blur, compression, noise, size and light. HyperIQA's own scores, made elsewhere, are read from
a file (`training.prepare.listing`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from engine.media import U8

F64 = NDArray[np.float64]

LOOK_EVERY: Final = 10  # frames between two that are judged
MIN_QUALITY: Final = 40.0

# From useless to good enough.
_SIZE: Final = (0.2, 0.6)  # picture pixels of the crop's height, in the clip's pixels
_BLUR: Final = (0.72, 0.45)  # `blur_effect`
_BLOCKS: Final = (1.2, 0.25)  # `blockiness`
_NOISE: Final = (16.0, 5.0)  # `noise_level`
_CLIPPED: Final = (0.30, 0.05)  # share of the face that is black or white
_CONTRAST: Final = (6.0, 20.0)  # levels
_BLACK, _WHITE = 20, 235  # limited range's ends, with a margin below

_SPREAD: Final = 9  # pixels of the blur that a picture is compared with
_BLOCK: Final = 8
_MEASURED: Final = 256  # pixels a side, at most, that blur is measured at


class QualityJudge(Protocol):
    """Judges a clip's pictures."""

    def score(self, crops: U8, faces: Sequence[U8]) -> float:
        """0 (useless) to 100.

        Args:
            crops: RGB [n, R, R, 3], aligned.
            faces: luma of the same faces as the video holds them, [h, w] each.
        """


@dataclass(frozen=True, slots=True)
class Measures:
    """Of one face, each from 0 (useless) to 1.

    Attributes:
        size: of the face in the video.
        sharpness: less where edges are soft.
        blocks: less where a codec's blocks show.
        noise: less where the sensor's noise shows.
        light: less where the face is burnt out, sunk in black or flat.
    """

    size: float
    sharpness: float
    blocks: float
    noise: float
    light: float

    @property
    def score(self) -> float:
        return 100.0 * self.size * self.sharpness * self.blocks * self.noise * self.light


class MeasuredQuality:
    """The median over frames of what is measured on each."""

    def score(self, crops: U8, faces: Sequence[U8]) -> float:
        scores = [measure(crop, face).score for crop, face in zip(crops, faces, strict=True)]
        return float(np.median(scores))


def measure(crop: U8, face: U8) -> Measures:
    """The measures of one face.

    Args:
        crop: RGB [R, R, 3], aligned.
        face: luma [h, w] as the video holds it.
    """
    luma = np.asarray(cv2.cvtColor(crop, cv2.COLOR_RGB2GRAY), np.uint8)
    size = face.shape[0] / luma.shape[0]
    side = min(luma.shape[0], _MEASURED)
    scaled = cv2.resize(luma, (side, side), interpolation=cv2.INTER_AREA)
    # Around a face the backdrop may be out of focus.
    top, left = side // 8, side // 6
    inner = np.asarray(scaled[top:-top, left:-left], np.uint8)
    middle = face[
        face.shape[0] // 6 : -face.shape[0] // 6, face.shape[1] // 6 : -face.shape[1] // 6
    ]
    clipped = float(((middle < _BLACK) | (middle > _WHITE)).mean())
    return Measures(
        size=_share(size, _SIZE),
        sharpness=_share(blur_effect(inner), _BLUR),
        blocks=_share(blockiness(face), _BLOCKS),
        noise=_share(noise_level(face), _NOISE),
        light=_share(clipped, _CLIPPED) * _share(float(middle.std()), _CONTRAST),
    )


def blur_effect(luma: U8) -> float:
    """0 (sharp) to 1: how little a picture changes when it is blurred.

    Of the variation between neighbouring pixels, the share that a blur along their line leaves;
    across or down, whichever is blurrier. F. Crete et al., "The blur effect: perception and
    estimation with a new no-reference perceptual blur metric", SPIE 2007.

    Args:
        luma: [h, w].
    """
    picture = luma.astype(np.float64)
    effects = []
    for axis in (0, 1):
        kernel = (1, _SPREAD) if axis == 0 else (_SPREAD, 1)
        soft = np.asarray(cv2.blur(picture, kernel, borderType=cv2.BORDER_REFLECT_101), np.float64)
        sharp = np.abs(np.diff(picture, axis=axis))
        lost = np.maximum(sharp - np.abs(np.diff(soft, axis=axis)), 0.0)
        total = float(sharp.sum())
        effects.append((total - float(lost.sum())) / total if total > 0 else 1.0)
    return max(effects)


def blockiness(luma: U8) -> float:
    """How much more pixels differ across a codec's 8-pixel grid than elsewhere; 0: no grid.

    Args:
        luma: [h, w] of a decoded picture that was not scaled; the grid may begin anywhere.
    """
    picture = luma.astype(np.float64)
    return min(_grid_excess(picture), _grid_excess(picture.T))


def noise_level(luma: U8) -> float:
    """Standard deviation of the noise in levels, from what a plane or an edge leaves nothing of.

    J. Immerkaer, "Fast noise variance estimation", Computer Vision and Image Understanding 1996.

    Args:
        luma: [h, w] of a picture that was not scaled.
    """
    mask = np.array([[1.0, -2.0, 1.0], [-2.0, 4.0, -2.0], [1.0, -2.0, 1.0]])
    rest = np.asarray(cv2.filter2D(luma, cv2.CV_64F, mask), np.float64)[1:-1, 1:-1]
    return float(np.sqrt(np.pi / 2) / 6.0 * np.abs(rest).mean())


def _grid_excess(picture: F64) -> float:
    """Of the differences along rows: those on the strongest phase of 8, over the others' median."""
    steps = np.abs(np.diff(picture, axis=1)).mean(axis=0)
    whole = len(steps) // _BLOCK * _BLOCK
    if whole < 2 * _BLOCK:
        return 0.0
    phases = np.sort(steps[:whole].reshape(-1, _BLOCK).mean(axis=0))
    usual = float(np.median(phases[:-1]))
    return (float(phases[-1]) - usual) / max(usual, 0.1)


def _share(value: float, ends: tuple[float, float]) -> float:
    """Where `value` lies from the first end (0) to the second (1)."""
    useless, good = ends
    return float(np.clip((value - useless) / (good - useless), 0.0, 1.0))
