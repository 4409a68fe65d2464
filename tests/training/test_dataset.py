from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from engine.spec import AudioSpec
from tests.toy_corpus import CLIP_FRAMES, write_toy_corpus
from training.dataset import (
    CropStore,
    SpeechStore,
    colour_jitter,
    to_tensor,
    windows_of,
)

AUDIO = AudioSpec(width=16, layers=1, heads=2, positions=16, log_floor=-5.0)


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    return write_toy_corpus(tmp_path)


def test_held_out_faces_are_in_no_training_split(corpus: Path) -> None:
    store = CropStore.open(corpus / "faces")
    train = {clip.identity for clip in store.clips("train")}
    assert train.isdisjoint(clip.identity for clip in store.clips("test"))
    assert store.crops(store.clips("test")[0]).shape == (CLIP_FRAMES, 128, 128, 3)


def test_windows_of_a_clip_slide_by_one_frame(corpus: Path) -> None:
    store, speech = CropStore.open(corpus / "faces"), SpeechStore(AUDIO, corpus / "speech")
    clip = store.clips("train")[0]
    rows = speech.rows(clip, 2, 6)
    windows = windows_of(torch.from_numpy(rows.T)[None], AUDIO)
    assert windows.shape == (1, 6, 80, 32)
    torch.testing.assert_close(windows[0, 0, :, 4:], windows[0, 1, :, :-4])
    later = windows_of(torch.from_numpy(speech.rows(clip, 5, 1).T)[None], AUDIO)
    torch.testing.assert_close(windows[0, 3], later[0, 0])


def test_jitter_of_colour_is_shared_inside_a_group() -> None:
    grey = np.full((4, 8, 8, 3), 100, np.uint8)
    out = colour_jitter(to_tensor(grey), torch.Generator().manual_seed(1), group=2)
    torch.testing.assert_close(out[0], out[1])
    assert not torch.allclose(out[0], out[2])
