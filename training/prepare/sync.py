"""Whether a clip's mouth fits its sound, and by how much the sound has to be moved for it.

Facts of LatentSync's own preparation (github.com/bytedance/LatentSync, README and `preprocess/`):
confidence of at least 3 by SyncNet, and an offset of at most 6 frames, which is then taken out.
Confidences of other networks lie on other scales: every judge has a limit of its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np

from engine.media import F32, FRAME_SAMPLES, U8

MAX_OFFSET_FRAMES: Final = 6
MARGIN_FRAMES: Final = 15  # of sound that a judge gets on both sides of the clip
CLEARLY: Final = 0.25  # share of the confidence that moving must gain, else sound stays
MIN_SPEAKING: Final = 0.3  # share of the clip that is not silence


@dataclass(frozen=True, slots=True)
class SyncVerdict:
    """What a judge says of a clip.

    Attributes:
        offset_frames: by how many frames the pictures come after their sound; negative: before.
        confidence: that it is so, on the judge's own scale.
        as_it_is: confidence that there is no offset, at most the other.
    """

    offset_frames: int
    confidence: float
    as_it_is: float

    @property
    def clear_offset(self) -> int:
        """The offset where it is clearly better than none: judges are off by a frame or so."""
        clear = self.confidence - self.as_it_is >= CLEARLY * self.confidence
        return self.offset_frames if clear else 0

    @property
    def clear_confidence(self) -> float:
        """The confidence at `clear_offset`."""
        return self.confidence if self.clear_offset else self.as_it_is


class SyncJudge(Protocol):
    """Tells how well mouths fit sound."""

    def judge(self, crops: U8, samples: F32) -> SyncVerdict | None:
        """The verdict; None: the clip is too short for one.

        Args:
            crops: RGB [n, R, R, 3], aligned to LatentSync's template.
            samples: 16 kHz [(n + 2 * MARGIN_FRAMES) * 640], beginning MARGIN_FRAMES early.
        """


@dataclass(frozen=True, slots=True)
class SyncLimits:
    """What is kept."""

    min_confidence: float
    max_offset_frames: int = MAX_OFFSET_FRAMES


@dataclass(frozen=True, slots=True)
class Synced:
    """A clip's sound, in time with its pictures.

    Attributes:
        samples: 16 kHz [n * 640].
        moved_frames: that it was moved by.
        confidence: after that; 0.0 where nobody judged.
    """

    samples: F32
    moved_frames: int
    confidence: float


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


def synchronise(
    crops: U8, sound: F32, clip: range, judge: SyncJudge | None, limits: SyncLimits
) -> Synced | str:
    """The clip's sound moved to where it belongs, or why the clip is left out.

    A clip whose sound was moved is judged again: what does not stay where it was put fits nowhere.

    Args:
        crops: of the clip's frames.
        sound: of the whole video.
        judge: None: the sound is taken as it is.
    """
    if judge is None:
        return Synced(clip_sound(sound, clip), 0, 0.0)
    verdict = judge.judge(crops, clip_sound(sound, clip, margin=MARGIN_FRAMES))
    if verdict is None:
        return "too short to judge its sync"
    if verdict.clear_confidence < limits.min_confidence:
        return f"mouth does not fit the sound: confidence {verdict.clear_confidence:.3g}"
    moved = verdict.clear_offset
    if abs(moved) > limits.max_offset_frames:
        return f"sound too far off: by {-moved:+d} frames"
    if moved:
        verdict = judge.judge(crops, clip_sound(sound, clip, moved, MARGIN_FRAMES))
        if verdict is None or verdict.clear_offset != 0:
            return f"sound fits nowhere: moved by {moved} frames and still off"
    return Synced(clip_sound(sound, clip, moved), moved, verdict.as_it_is)
