"""By how much a video's sound is off its mouths, and which clips fit once it has been moved.

A judge measures, for every offset, how far pictures and sound are apart. One clip's best offset is
often wrong by a frame or more; the sound of one file is off by one amount, so the clips of a
source are asked together, and each is then held to what they say.

Facts of LatentSync's own preparation (github.com/bytedance/LatentSync, README and `preprocess/`):
clip by clip, a confidence of at least 3 by SyncNet, and an offset of at most 6 frames, which is
taken out. Confidences of other networks lie on other scales: every judge has a limit of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from engine.media import F32, FRAME_SAMPLES, U8

F64 = NDArray[np.float64]

MAX_OFFSET_FRAMES: Final = 6
MARGIN_FRAMES: Final = 15  # of sound beside the clip, and offsets that are looked at
CLEARLY: Final = 0.25  # share of the confidence that moving must gain, else sound stays
MIN_SPEAKING: Final = 0.3  # share of the clip that is not silence


@dataclass(frozen=True, slots=True)
class SyncCurve:
    """How far a clip's pictures are from its sound.

    Attributes:
        distances: float64 [2 * MARGIN_FRAMES + 1]; entry MARGIN_FRAMES + k is the mean between
            what is seen at frame t and heard at frame t + k.
        windows: that it is the mean of.
    """

    distances: F64
    windows: int

    def confidence(self, offset_frames: int) -> float:
        """That the pictures come so many frames after their sound: the median less the distance.

        Chung and Zisserman, "Out of time: automated lip sync in the wild", 2016.
        """
        distance = self.distances[MARGIN_FRAMES - offset_frames]
        return float(np.median(self.distances) - distance)


class SyncJudge(Protocol):
    """Tells how well mouths fit sound."""

    def curve(self, crops: U8, samples: F32) -> SyncCurve | None:
        """The curve of a clip; None: it is too short.

        Args:
            crops: RGB [n, R, R, 3], aligned to LatentSync's template.
            samples: 16 kHz [(n + 2 * MARGIN_FRAMES) * 640], beginning MARGIN_FRAMES early.
        """


def source_offset(curves: Sequence[SyncCurve]) -> int:
    """By how many frames a source's pictures come after their sound; negative: before.

    0 unless that is clearly worse.
    """
    if not curves:
        return 0
    weights = [curve.windows for curve in curves]
    pooled = np.average([curve.distances for curve in curves], axis=0, weights=weights)
    together = SyncCurve(pooled, sum(weights))
    offset = MARGIN_FRAMES - int(pooled.argmin())
    confidence = together.confidence(offset)
    clear = confidence - together.confidence(0) >= CLEARLY * confidence
    return offset if clear else 0


def clip_sound(sound: F32, clip: range, offset_frames: int = 0, margin: int = 0) -> F32:
    """The sound of a clip whose pictures come `offset_frames` after it; silence beyond its ends.

    Args:
        sound: 16 kHz, sample 0 at frame 0.
        clip: frames.
        margin: frames more on both sides.
    """
    first = (clip.start - offset_frames - margin) * FRAME_SAMPLES
    stop = (clip.stop - offset_frames + margin) * FRAME_SAMPLES
    inside = sound[max(first, 0) : max(stop, 0)]
    result = np.zeros(stop - first, np.float32)
    begin = max(-first, 0)
    result[begin : begin + len(inside)] = inside
    return result
