from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from engine.models.tiny_codec import TinyCodec
from engine.spec import AudioSpec, CodecSpec
from tests.toy_corpus import write_toy_corpus
from training.batches import clip_batch, frame_batch, jittered, keep_pixels
from training.dataset import CropStore, Frames, SpeechStore, to_tensor
from training.source_warp import moved

AUDIO = AudioSpec(width=16, layers=1, heads=2, positions=16, log_floor=-5.0)


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    return write_toy_corpus(tmp_path)


@pytest.fixture
def codec() -> TinyCodec:
    return TinyCodec(CodecSpec(kind="tiny", latent_channels=4, width=8, blocks=1))


def test_a_batch_hides_the_generated_part_of_the_source_and_nothing_else(
    corpus: Path, codec: TinyCodec
) -> None:
    store = CropStore.open(corpus / "faces")
    batch = frame_batch(store, codec, 3, "train", seed=5)
    kept = batch.mask[0, 0, 0] > 0.5
    grey = codec.encode(torch.zeros(1, 3, 128, 128))[0, :, 8, 8]
    torch.testing.assert_close(batch.masked[..., 0, kept], batch.reference[..., 0, kept])
    torch.testing.assert_close(batch.masked[0, 0, :, 8, 8], grey)


def test_the_same_seed_gives_the_same_batch(corpus: Path, codec: TinyCodec) -> None:
    store, speech = CropStore.open(corpus / "faces"), SpeechStore(AUDIO, corpus / "speech")
    one, two = (clip_batch(store, speech, codec, (2, 8), "train", 3) for _ in range(2))
    assert one.whole.shape == (2, 8, 4, 16, 16)
    torch.testing.assert_close(one.whole, two.whole)
    torch.testing.assert_close(one.power, two.power)


def smooth(count: int) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    y, x = np.mgrid[0:128, 0:128] / 128.0
    waves = [127 + 100 * np.sin(7 * x + 5 * y + phase) for phase in range(3)]
    return np.repeat(np.stack(waves, -1)[None], count, axis=0).astype(np.uint8)


@pytest.mark.parametrize("seed", range(4))
def test_a_jittered_run_still_finds_its_pixels_in_its_source(seed: int) -> None:
    motion = np.zeros((1, 16, 16, 2), np.float32)
    motion[..., 0], motion[..., 1] = 0.5, -0.25  # cells: 4 and -2 pixels
    crops = smooth(1)
    sources = np.roll(crops, (-2, 4), axis=(1, 2))
    run = jittered(Frames(crops, sources, motion, np.zeros((1, 7), np.float32)), np_random(seed))
    field = torch.from_numpy(np.ascontiguousarray(run.motion)).permute(0, 3, 1, 2)
    found = moved(to_tensor(run.sources), field)
    error = (found - to_tensor(run.crops)).abs()[..., 12:-12, 12:-12]
    assert float(error.max()) < 0.02


def np_random(seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_the_mask_leaves_skin_on_every_side() -> None:
    keep = keep_pixels()
    edges = torch.cat([keep[0], keep[-1], keep[:, 0], keep[:, -1]])
    assert edges.min() == 1.0
    assert keep[70, 64] == 0.0
