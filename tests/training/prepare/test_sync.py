"""The clips of a source say together how far its sound is off."""

from __future__ import annotations

import numpy as np

from engine.media import FRAME_SAMPLES
from training.prepare.sync import MARGIN_FRAMES, SyncCurve, clip_sound, source_offset


def curve(offset: int, depth: float = 0.1, noise: float = 0.0, seed: int = 0) -> SyncCurve:
    """Distances of about 1 with a dip where the pictures come `offset` frames after the sound."""
    rng = np.random.default_rng(seed)
    distances = 1.0 + noise * rng.standard_normal(2 * MARGIN_FRAMES + 1)
    distances[MARGIN_FRAMES - offset] -= depth
    return SyncCurve(distances, 60)


def test_confidence_is_the_median_less_the_distance_at_an_offset() -> None:
    dip = curve(-4)
    assert np.isclose(dip.confidence(-4), 0.1)
    assert dip.confidence(0) == dip.confidence(4) == 0.0


def test_a_sources_offset_is_that_of_its_clips() -> None:
    assert source_offset([curve(-4)]) == -4
    assert source_offset([curve(3), curve(3)]) == 3
    assert source_offset([curve(0)]) == 0
    assert source_offset([]) == 0


def test_many_clips_find_an_offset_that_few_of_them_see() -> None:
    clips = [curve(5, depth=0.05, noise=0.04, seed=seed) for seed in range(30)]
    alone = [source_offset([clip]) for clip in clips]
    assert alone.count(5) < 20
    assert source_offset(clips) == 5


def test_a_long_clip_counts_for_more_than_a_short_one() -> None:
    long, short = curve(2), SyncCurve(curve(-3).distances, 5)
    assert source_offset([long, short]) == 2


def test_sound_stays_where_it_is_unless_moving_is_clearly_better() -> None:
    distances = curve(1, depth=0.1).distances
    distances[MARGIN_FRAMES] -= 0.08
    assert source_offset([SyncCurve(distances, 60)]) == 0
    distances[MARGIN_FRAMES] += 0.04
    assert source_offset([SyncCurve(distances, 60)]) == 1


def test_sound_beyond_the_clip_fills_what_moving_frees() -> None:
    sound = np.repeat(np.arange(1, 101, dtype=np.float32), FRAME_SAMPLES)
    moved = clip_sound(sound, range(95, 100), offset_frames=-4)
    assert moved[::FRAME_SAMPLES].tolist() == [100.0, 0.0, 0.0, 0.0, 0.0]
    early = clip_sound(sound, range(0, 3), offset_frames=2)
    assert early[::FRAME_SAMPLES].tolist() == [0.0, 0.0, 1.0]
    wide = clip_sound(sound, range(10, 12), margin=1)
    assert wide[::FRAME_SAMPLES].tolist() == [10.0, 11.0, 12.0, 13.0]
