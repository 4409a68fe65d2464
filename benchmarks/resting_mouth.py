"""Whether a picture of an avatar shows the clip's own, resting mouth, told from its pixels.

At rest a frame is the clip's frame; anything else was drawn over its lips. The receiver knows
which frame a picture is, by its media time, so it can hold the lips of the two beside each
other. What is left between them at rest is the codec's noise, which is measured before a word
is said, and what speech leaves is measured too: a judge that cannot tell them apart says so.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np

from benchmarks.quality.material import LIPS
from engine.avatar import load_avatar, loop_index
from engine.media import F32, U8

# Brow centres and nose of LatentSync's template, in whose units LIPS is.
TEMPLATE: Final = np.asarray(((17.0, 20.0), (58.0, 20.0), (37.5, 40.0)), np.float32)
PATCH: Final = (40, 36)  # what the lips' box is sampled to, so that heads of any size compare
FLOOR_MARGIN: Final = 1.25  # above the worst of the resting pictures


class RestingMouth:
    """The lips of a clip's frames."""

    def __init__(self, avatar: Path) -> None:
        """
        Args:
            avatar: its folder.
        """
        clip = load_avatar(avatar)
        self._loop = clip.loop
        self._maps = [lips_to_picture(points) for points in clip.points]
        self._lips = [
            _lips(picture.i420[: picture.height], affine)
            for picture, affine in zip(clip.pictures, self._maps, strict=True)
        ]

    def distance(self, luma: U8, frame: int) -> float:
        """Mean difference of the lips from the clip's, in grey levels.

        Args:
            luma: [h, w], the received picture's.
            frame: its number on media time.
        """
        index = loop_index(frame, len(self._lips), self._loop)
        return float(np.abs(_lips(luma, self._maps[index]) - self._lips[index]).mean())


@dataclass(frozen=True, slots=True)
class Judge:
    """The distance up to which a mouth counts as resting, and how well that tells.

    Attributes:
        threshold: grey levels.
        resting, speaking: p50, p95 and worst distance of pictures known to be the one or the other;
            of speech the smallest instead of the worst.
        speech_taken_for_rest: share of the pictures in mid-speech below the threshold.
    """

    threshold: float
    resting: tuple[float, float, float]
    speaking: tuple[float, float, float]
    speech_taken_for_rest: float

    @classmethod
    def of(cls, resting: Sequence[float], speaking: Sequence[float]) -> Judge:
        """From the distances of both kinds."""
        threshold = FLOOR_MARGIN * max(resting)
        mistaken = float(np.mean(np.asarray(speaking) <= threshold))
        return cls(
            round(threshold, 2),
            (*_percentiles(resting), round(max(resting), 2)),
            (*_percentiles(speaking), round(min(speaking), 2)),
            round(mistaken, 4),
        )

    def describe(self) -> dict[str, Any]:
        return asdict(self)


def _percentiles(values: Sequence[float]) -> tuple[float, float]:
    p50, p95 = np.percentile(values, (50, 95))
    return round(float(p50), 2), round(float(p95), 2)


def lips_to_picture(points: F32) -> F32:
    """float32 [2, 3]: where each place of the sampled patch lies in the picture."""
    left, top, right, bottom = LIPS
    width, height = PATCH
    scale = np.array(((right - left) / width, (bottom - top) / height))
    to_picture = cv2.getAffineTransform(TEMPLATE, np.asarray(points, np.float32))
    patch = np.array(((scale[0], 0, left), (0, scale[1], top), (0, 0, 1)))
    return np.asarray(to_picture @ patch, np.float32)


def _lips(luma: U8, affine: F32) -> F32:
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return np.asarray(cv2.warpAffine(luma, affine, PATCH, flags=flags), np.float32)
