from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from engine.models.syncnet import StableSyncNet
from tests.toy_corpus import write_toy_corpus
from training.dataset import CropStore, SpeechStore
from training.sync_accuracy import PLANTED, Stretch, another, measure, offsets, roc, separation
from training.sync_inputs import SOUND
from training.sync_network import SyncExpert, branch_specs
from training.sync_score import REACH

WIDTH = 2 * (REACH + PLANTED) + 1


def stretch(best: int = 0, windows: int = 12, moves: bool = True) -> Stretch:
    """Whose distances are least `best` frames from where they should be."""
    table = np.full((windows, WIDTH), 1.0)
    table[:, WIDTH // 2 + best] = 0.3
    opening = np.tile((0.0, 1.0), (windows + 4) // 2).astype(np.float32) * moves
    return Stretch(table, np.full((windows, 2 * REACH + 1), 0.9), opening)


def test_offsets_are_judged_at_every_planted_one() -> None:
    assert offsets([stretch()])["exact"] == 1.0
    near = offsets([stretch(), stretch(best=1)])
    assert (near["exact"], near["within_1"], near["mean_error_frames"]) == (0.5, 1.0, 0.5)
    assert offsets([stretch(best=2)])["within_2"] == 1.0


def test_still_mouths_are_counted_apart() -> None:
    found = offsets([stretch(), stretch(best=5, moves=False)])
    assert (found["stretches"], found["still"], found["exact"]) == (1, 1, 1.0)
    assert "exact" not in offsets([stretch(moves=False)])
    assert separation([stretch(moves=False)]) == {}


def test_a_stretch_is_cut_into_whole_parts_with_their_openings() -> None:
    parts = list(stretch(windows=12).parts(5))
    assert [len(part.table) for part in parts] == [5, 5]
    assert [len(part.opening) for part in parts] == [9, 9]


def test_separation_holds_sound_in_place_against_moved_and_other_sound() -> None:
    found = separation([stretch(), stretch()])
    assert found["moved"]["area"] == found["other_sound"]["area"] == 1.0
    assert found["confidence"]["area"] == 1.0
    assert found["confidence"]["equal_error_limit"] == pytest.approx(-0.7)
    assert found["moved"]["in_sync"] == 2 and found["moved"]["out_of_sync"] == 2 * 16


def test_a_roc_knows_perfect_useless_and_inverted_scores() -> None:
    assert roc([0.1, 0.2], [0.3, 0.4])["area"] == 1.0
    assert roc([0.1, 0.2], [0.3, 0.4])["accept"][0] == 1.0
    assert roc([0.3, 0.4], [0.1, 0.2])["area"] == 0.0
    same = roc([0.1, 0.2, float("nan")], [0.1, 0.2])
    assert same["area"] == 0.5 and same["equal_error"] == pytest.approx(0.5)
    assert roc([], [0.1]) == {}


def test_the_report_covers_every_split_and_is_json(tmp_path: Path) -> None:
    folder = write_toy_corpus(tmp_path)
    store, speech = CropStore.open(folder / "faces"), SpeechStore(SOUND, folder / "speech")
    expert = SyncExpert(StableSyncNet(*branch_specs(5)).eval(), 5)
    result = measure(expert, store, speech)
    assert list(result["splits"]) == ["voices"] and result["all"]["clips"] == 1
    assert set(result["all"]["offsets"]) == {"whole", "16", "24", "32"}
    json.dumps(result, allow_nan=False)
    assert another(store.clips("test"), 0) == 0  # there is no other clip in the toy corpus
