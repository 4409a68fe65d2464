from __future__ import annotations

import numpy as np
import pytest

from engine.media import F32
from training.sync_score import REACH, distances, looped_distances, sync_score


def embeddings(count: int, seed: int = 0) -> F32:
    """[count, 8] of unit length, unlike each other."""
    rows = np.random.default_rng(seed).normal(size=(count, 8))
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), np.float32)


@pytest.mark.parametrize("late", [-12, -1, 0, 7])
def test_an_offset_is_found_and_late_pictures_are_positive(late: int) -> None:
    heard = embeddings(120)
    seen = heard[40 - late : 80 - late]  # at frame 40 it shows what was heard `late` before
    score = sync_score([distances(seen, heard, first=40)])
    assert score is not None and score.offset_frames == late
    assert score.distance == pytest.approx(0.0, abs=1e-6)
    assert score.windows == 40
    assert (score.here < 1e-6) == (late == 0)


def test_confidence_is_the_median_over_offsets_less_the_least() -> None:
    table = np.full((4, 2 * REACH + 1), 1.2)
    table[:, REACH + 3] = (0.4, 0.5, 0.6, 0.5)
    score = sync_score([table[:1], table[1:]])
    assert score is not None
    assert score.to_dict() == {
        "offset_frames": -3, "distance": 0.5, "confidence": 0.7, "here": 1.2, "windows": 4,
    }  # fmt: skip


def test_sound_that_is_not_there_does_not_count() -> None:
    heard = embeddings(30)
    table = distances(heard[:20], heard, first=0)
    assert np.isnan(table[0, :REACH]).all() and not np.isnan(table[0, REACH:]).any()
    score = sync_score([table])
    assert score is not None and score.offset_frames == 0
    assert sync_score([distances(heard[:0], heard)]) is None
    assert sync_score([distances(heard[:5], heard[:0])]) is None


def test_a_loop_has_sound_at_every_offset() -> None:
    heard = embeddings(41)
    seen = np.tile(heard, (3, 1))[5:95]
    table = looped_distances(seen, heard)
    assert table.shape == (90, 2 * REACH + 1) and not np.isnan(table).any()
    score = sync_score([table])
    assert score is not None and score.offset_frames == -5
