from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from engine.models.tiny_codec import TinyCodec
from engine.spec import CodecSpec
from tests.toy_corpus import write_toy_corpus
from training.codec import fresh_codec, load, mouth_psnr, patch_components, psnr, save, train
from training.dataset import CropStore, to_tensor
from training.optimise import Recipe

SPEC = CodecSpec(kind="tiny", latent_channels=6, width=8, blocks=1)


def smooth_crops(count: int) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    rng = np.random.default_rng(2)
    y, x = np.mgrid[0:128, 0:128] / 128.0
    waves = [
        127 + 100 * np.sin(6 * (rng.random() * x + rng.random() * y) + rng.random() * 6)
        for _ in range(count * 3)
    ]
    return np.stack(waves, -1).reshape(128, 128, count, 3).transpose(2, 0, 1, 3).astype(np.uint8)


def test_components_are_orthonormal() -> None:
    patches = patch_components(smooth_crops(6), 5, 8, mouth_gain=4.0)
    flat = patches.components.flatten(1)
    torch.testing.assert_close(flat @ flat.T, torch.eye(5), atol=1e-4, rtol=0)


def test_a_fresh_codec_has_latents_of_unit_spread_and_repeats_smooth_pictures() -> None:
    crops = smooth_crops(8)
    codec = fresh_codec(SPEC, crops)
    with torch.no_grad():
        assert codec.encode(to_tensor(crops)).std() == pytest.approx(1.0, rel=0.25)
    assert mouth_psnr(codec, crops)[0] > 30.0


def test_training_keeps_the_encoder_and_saves_what_it_loads(tmp_path: Path) -> None:
    store = CropStore.open(write_toy_corpus(tmp_path / "corpus") / "faces")
    codec = fresh_codec(SPEC, store.sample(8, "train", 0))
    before = codec.encoder.patches.weight.detach().clone()
    path = tmp_path / "codec.safetensors"
    train(codec, store, Recipe(steps=2, batch=2, rate=1e-3), path)
    torch.testing.assert_close(codec.encoder.patches.weight.detach(), before)
    again = load(path)
    image = to_tensor(store.sample(1, "test", 0))
    torch.testing.assert_close(again.encode(image), codec.encode(image))
    assert again.spec == codec.spec


def test_psnr_of_a_tenth_of_the_peak_is_twenty_decibels() -> None:
    assert psnr(0.04, peak=2.0) == pytest.approx(20.0)


def test_saving_is_readable_by_the_engine(tmp_path: Path) -> None:
    codec = TinyCodec(SPEC)
    save(codec, tmp_path / "codec.safetensors")
    assert load(tmp_path / "codec.safetensors").state_dict().keys() == codec.state_dict().keys()
