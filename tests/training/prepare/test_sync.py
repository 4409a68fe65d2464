"""Sound is moved to its mouth, or the clip is left out."""

from __future__ import annotations

import numpy as np

from engine.media import F32, FRAME_SAMPLES, U8
from training.prepare.sync import (
    MARGIN_FRAMES,
    SyncLimits,
    SyncVerdict,
    clip_sound,
    synchronise,
)

LIMITS = SyncLimits(min_confidence=3.0, max_offset_frames=6)


class LoudestFrame:
    """Takes the whitest crop and the loudest frame of sound for the same moment."""

    def __init__(self, confidence: float = 5.0) -> None:
        self.confidence = confidence

    def judge(self, crops: U8, samples: F32) -> SyncVerdict:
        levels = np.abs(samples).reshape(-1, FRAME_SAMPLES).sum(axis=1)
        assert len(levels) == len(crops) + 2 * MARGIN_FRAMES
        heard = int(levels.argmax()) - MARGIN_FRAMES
        seen = int(crops.reshape(len(crops), -1).sum(axis=1).argmax())
        off = seen - heard
        return SyncVerdict(off, self.confidence, self.confidence if off == 0 else 0.0)


def marked(clip: range, seen: int, heard: int) -> tuple[U8, F32]:
    """Crops of a clip that is white at frame `seen`, and sound that is loud at frame `heard`."""
    crops = np.zeros((len(clip), 4, 4, 3), np.uint8)
    crops[seen - clip.start] = 255
    sound = np.zeros(200 * FRAME_SAMPLES, np.float32)
    sound[heard * FRAME_SAMPLES : (heard + 1) * FRAME_SAMPLES] = 0.5
    return crops, sound


def test_sound_that_is_late_is_moved_back_to_its_picture() -> None:
    clip = range(60, 120)
    crops, sound = marked(clip, seen=90, heard=94)
    synced = synchronise(crops, sound, clip, LoudestFrame(), LIMITS)
    assert not isinstance(synced, str)
    assert (synced.moved_frames, synced.confidence) == (-4, 5.0)
    levels = np.abs(synced.samples).reshape(-1, FRAME_SAMPLES).sum(axis=1)
    assert len(levels) == 60
    assert levels.argmax() == 30


def test_sound_beyond_the_clip_fills_what_moving_frees() -> None:
    sound = np.repeat(np.arange(1, 101, dtype=np.float32), FRAME_SAMPLES)
    moved = clip_sound(sound, range(95, 100), offset_frames=-4)
    assert moved[::FRAME_SAMPLES].tolist() == [100.0, 0.0, 0.0, 0.0, 0.0]
    early = clip_sound(sound, range(0, 3), offset_frames=2)
    assert early[::FRAME_SAMPLES].tolist() == [0.0, 0.0, 1.0]
    wide = clip_sound(sound, range(10, 12), margin=1)
    assert wide[::FRAME_SAMPLES].tolist() == [10.0, 11.0, 12.0, 13.0]


def test_sound_that_is_too_far_off_is_left_out() -> None:
    crops, sound = marked(range(60, 120), seen=90, heard=97)
    reason = synchronise(crops, sound, range(60, 120), LoudestFrame(), LIMITS)
    assert reason == "sound too far off: by +7 frames"


def test_a_clip_without_confidence_is_left_out_and_not_moved() -> None:
    crops, sound = marked(range(60, 120), seen=90, heard=90)
    reason = synchronise(crops, sound, range(60, 120), LoudestFrame(2.0), LIMITS)
    assert reason == "mouth does not fit the sound: confidence 2"


def test_sound_stays_where_it_is_unless_moving_is_clearly_better() -> None:
    class Unsure(LoudestFrame):
        def judge(self, crops: U8, samples: F32) -> SyncVerdict:
            return SyncVerdict(1, 4.0, 3.5)

    crops, sound = marked(range(60, 120), seen=90, heard=90)
    synced = synchronise(crops, sound, range(60, 120), Unsure(), LIMITS)
    assert not isinstance(synced, str)
    assert (synced.moved_frames, synced.confidence) == (0, 3.5)


def test_sound_that_does_not_stay_where_it_is_put_is_left_out() -> None:
    class Fickle(LoudestFrame):
        def judge(self, crops: U8, samples: F32) -> SyncVerdict:
            return SyncVerdict(2, 9.0, 1.0)

    crops, sound = marked(range(60, 120), seen=90, heard=90)
    reason = synchronise(crops, sound, range(60, 120), Fickle(), LIMITS)
    assert isinstance(reason, str)
    assert reason.startswith("sound fits nowhere")


def test_a_clip_that_is_too_short_to_judge_is_left_out() -> None:
    class Patient(LoudestFrame):
        def judge(self, crops: U8, samples: F32) -> SyncVerdict | None:  # type: ignore[override]
            return None

    crops, sound = marked(range(60, 63), seen=60, heard=60)
    assert synchronise(crops, sound, range(60, 63), Patient(), LIMITS) == (
        "too short to judge its sync"
    )


def test_without_a_judge_sound_is_taken_as_it_is() -> None:
    crops, sound = marked(range(60, 120), seen=90, heard=94)
    synced = synchronise(crops, sound, range(60, 120), None, LIMITS)
    assert not isinstance(synced, str)
    assert synced.moved_frames == 0
    assert np.array_equal(synced.samples, sound[60 * FRAME_SAMPLES : 120 * FRAME_SAMPLES])
