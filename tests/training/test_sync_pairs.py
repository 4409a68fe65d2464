from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from tests.toy_corpus import write_toy_corpus
from training.dataset import CropStore, SpeechStore
from training.sync_inputs import SOUND, VIEW
from training.sync_pairs import BatchShape, PairSource, left_out

SHAPE = BatchShape(clips=2, windows=3, frames=5)


@pytest.fixture
def source(tmp_path: Path) -> PairSource:
    folder = write_toy_corpus(tmp_path)
    store, speech = CropStore.open(folder / "faces"), SpeechStore(SOUND, folder / "speech")
    return PairSource(store, speech, SHAPE)


def test_a_batch_has_windows_their_sound_and_pictures_of_no_sound(source: PairSource) -> None:
    batch = source.batch(0)
    assert batch.frames.shape == (2 * 3 + 2, 3 * 5, VIEW, VIEW)
    assert batch.mel.shape == (6, 1, 40, 10) and batch.mouths.shape == (6, 5, 7)
    assert batch.left_out.shape == (8, 6) and not batch.left_out[:6].diagonal().any()


def test_the_same_number_gives_the_same_batch_and_another_another(source: PairSource) -> None:
    one, same, other = source.batch(3), source.batch(3), source.batch(4)
    torch.testing.assert_close(one.frames, same.frames, rtol=0, atol=0)
    torch.testing.assert_close(one.mel, same.mel, rtol=0, atol=0)
    assert not torch.equal(one.mel, other.mel)


def test_windows_that_look_alike_are_left_out_and_moving_ones_are_not() -> None:
    speaking, rest = np.zeros((2, 5, 7), np.float32)
    speaking[:, 0] = (0.0, 0.5, 1.0, 0.5, 0.0)
    found = left_out(np.stack([rest, speaking, rest]), 5)
    assert found[:3].tolist() == [
        [False, False, True],
        [False, False, False],
        [True, False, False],
    ]
    # Sources may rest too: they are wrong for speech only.
    assert found[3:].tolist() == [[True, False, True]] * 2


def test_clips_that_are_too_short_are_refused(tmp_path: Path) -> None:
    folder = write_toy_corpus(tmp_path)
    store, speech = CropStore.open(folder / "faces"), SpeechStore(SOUND, folder / "speech")
    with pytest.raises(ValueError, match="at least 31 frames"):
        PairSource(store, speech, BatchShape(2, 16, 16))
