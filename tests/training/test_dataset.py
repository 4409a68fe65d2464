from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from engine.models.tiny_codec import TinyCodec
from engine.spec import AudioSpec, CodecSpec
from tests.toy_corpus import CLIP_FRAMES, write_toy_corpus
from training.dataset import (
    CropStore,
    SpeechStore,
    clip_batch,
    colour_jitter,
    frame_batch,
    keep_pixels,
    shifted,
    to_tensor,
    windows_of,
)

AUDIO = AudioSpec(width=16, layers=1, heads=2, positions=16, log_floor=-5.0)


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    return write_toy_corpus(tmp_path)


@pytest.fixture
def codec() -> TinyCodec:
    return TinyCodec(CodecSpec(kind="tiny", latent_channels=4, width=8, blocks=1))


def test_held_out_faces_are_in_no_training_split(corpus: Path) -> None:
    store = CropStore.open(corpus / "faces")
    train = {clip.identity for clip in store.clips("train")}
    assert train.isdisjoint(clip.identity for clip in store.clips("test"))
    assert store.crops(store.clips("test")[0]).shape == (CLIP_FRAMES, 128, 128, 3)


def test_a_batch_hides_the_generated_part_of_the_source_and_nothing_else(
    corpus: Path, codec: TinyCodec
) -> None:
    store = CropStore.open(corpus / "faces")
    batch = frame_batch(store, codec, 3, "train", seed=5)
    kept = batch.mask[0, 0, 0] > 0.5
    grey = codec.encode(torch.zeros(1, 3, 128, 128))[0, :, 8, 8]
    torch.testing.assert_close(batch.masked[:, :, 0, kept], batch.reference[:, :, 0, kept])
    torch.testing.assert_close(batch.masked[0, :, 8, 8], grey)


def test_the_same_seed_gives_the_same_batch(corpus: Path, codec: TinyCodec) -> None:
    store, speech = CropStore.open(corpus / "faces"), SpeechStore(AUDIO, corpus / "speech")
    one, two = (clip_batch(store, speech, codec, (2, 8), "train", 3) for _ in range(2))
    torch.testing.assert_close(one.whole, two.whole)
    torch.testing.assert_close(one.power, two.power)


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


def test_a_shift_moves_a_frame_and_its_source_alike() -> None:
    crops = np.random.default_rng(0).integers(0, 255, (2, 16, 16, 3), dtype=np.uint8)
    crops[1] = crops[0]
    moved = shifted(crops, np.random.default_rng(4))
    np.testing.assert_array_equal(moved[0], moved[1])


def test_the_mask_leaves_skin_on_every_side() -> None:
    keep = keep_pixels()
    edges = torch.cat([keep[0], keep[-1], keep[:, 0], keep[:, -1]])
    assert edges.min() == 1.0
    assert keep[70, 64] == 0.0
