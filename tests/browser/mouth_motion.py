"""How far a mouth is from rest, measured on what the browser shows.

The resting mouth moves with the head, so a difference between neighbouring
frames does not tell speech from a nod. The measure used is the distance to the
nearest picture of the avatar's own idle clip: near zero at rest, whatever the
head does, and large when the lips have another shape.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
from numpy.typing import NDArray

F64 = NDArray[np.float64]

PATCH = (48, 36)  # width, height in pixels to which a mouth is reduced
# The mouth in the units of LatentSync's face template, 75 x 100.
BROWS_AND_NOSE = np.array([[17.0, 20.0], [58.0, 20.0], [37.5, 40.0]])
MOUTH_CENTRE = np.array([37.5, 71.0])
MOUTH_SIZE = np.array([28.0, 22.0])


@dataclass(frozen=True, slots=True)
class MouthBox:
    """A rectangle in pixels of the avatar's picture."""

    x: int
    y: int
    width: int
    height: int


def mouth_box(avatar: Path) -> MouthBox:
    """Where the mouth of an avatar folder lies in its reference frame."""
    description = json.loads((avatar / "avatar.json").read_text(encoding="utf-8"))
    points = np.array(description["points"][description["reference_frame"]])
    scale = np.linalg.norm(points[1] - points[0]) / np.linalg.norm(
        BROWS_AND_NOSE[1] - BROWS_AND_NOSE[0]
    )
    centre = points.mean(axis=0) + scale * (MOUTH_CENTRE - BROWS_AND_NOSE.mean(axis=0))
    width, height = np.round(scale * MOUTH_SIZE).astype(int)
    return MouthBox(
        int(centre[0] - width / 2), int(centre[1] - height / 2), int(width), int(height)
    )


def resting_patches(avatar: Path, box: MouthBox) -> F64:
    """Every frame of the idle clip, [n, PATCH height * width], grey."""
    patches = []
    with av.open(str(avatar / "clip.mp4")) as clip:
        for frame in clip.decode(video=0):
            rgb = frame.to_ndarray(format="rgb24")
            part = rgb[box.y : box.y + box.height, box.x : box.x + box.width]
            patches.append(_grey(cv2.resize(part, PATCH, interpolation=cv2.INTER_AREA)))
    return np.array(patches)


def patches_of(rgba: bytes) -> F64:
    """What the page recorded, RGBA patches in a row, as [n, PATCH height * width], grey."""
    width, height = PATCH
    pixels = np.frombuffer(rgba, np.uint8).reshape(-1, height, width, 4)
    return np.array([_grey(patch[..., :3]) for patch in pixels])


def distance_from_rest(patches: F64, resting: F64) -> F64:
    """[n]: root mean square difference to the nearest resting patch, in grey levels."""
    return np.array([np.sqrt(((resting - patch) ** 2).mean(axis=1).min()) for patch in patches])


def smooth(values: F64, times_s: F64, width_s: float) -> F64:
    """The running mean over `width_s`; `times_s` need not be even."""
    near = np.abs(times_s[:, None] - times_s[None, :]) <= width_s / 2
    mean: F64 = (near * values[None, :]).sum(axis=1) / near.sum(axis=1)
    return mean


def speech_and_silence(
    loud: F64, times_s: F64, *, settle_s: float = 0.45, threshold: float = 0.01
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Which frames are surely within speech and which surely in silence.

    Frames closer than `settle_s` to a change are in neither: lips open before
    the voice is heard and close after it.
    """
    spoken = loud > threshold
    # Gaps between words are no silence.
    around = np.abs(times_s[:, None] - times_s[None, :]) <= settle_s
    speech = smooth(spoken.astype(float), times_s, 0.3) > 0.5
    silence: NDArray[np.bool_] = ~np.any(around & spoken[None, :], axis=1)
    return speech, silence


def correlation(a: Sequence[float] | F64, b: Sequence[float] | F64) -> float:
    return float(np.corrcoef(np.asarray(a), np.asarray(b))[0, 1])


def _grey(rgb: NDArray[Any]) -> F64:
    grey: F64 = (rgb.astype(np.float64) @ np.array([0.299, 0.587, 0.114])).ravel()
    return grey
