"""The losses in pixels, with small networks: strict files, known values, gradients to the made."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from engine.errors import AudioFormatError, StateDictMismatch
from engine.models.syncnet import PUBLISHED_AUDIO, PUBLISHED_VISUAL, StableSyncNet
from tests.tiny_models import randomize
from tests.toy_finetune import STAGES, TINY_VIDEO, small_syncnet
from training.losses.perceptual import PerceptualLoss, StageWeights, Vgg16
from training.losses.sync import SyncLoss
from training.losses.sync_mel import columns_of, sync_mel
from training.losses.temporal import TemporalLoss
from training.losses.videomae import VideoMae, VideoMaeSpec


def _parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def _pictures(seed: int, *shape: int) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def _perceptual() -> PerceptualLoss:
    vgg, weights = Vgg16(STAGES), StageWeights(STAGES)
    randomize(vgg, 0)
    randomize(weights, 1)
    return PerceptualLoss(vgg, weights)


def test_networks_have_the_published_sizes() -> None:
    with torch.device("meta"):
        assert _parameters(Vgg16()) == 14_714_688  # torchvision's VGG-16 without its classifier
        assert _parameters(StageWeights()) == 64 + 128 + 256 + 512 + 512
        assert _parameters(StableSyncNet(PUBLISHED_AUDIO, PUBLISHED_VISUAL)) == 401_306_080
        # ViT-g at 16 frames: 1,012 M with its classifier of 174 classes (VideoMAE v2, table 10).
        assert round(_parameters(VideoMae(VideoMaeSpec())) / 1e6) == 1012


def test_vgg_has_torchvisions_keys() -> None:
    numbers = (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28)
    with torch.device("meta"):
        keys = list(Vgg16().state_dict())
    assert keys == [f"features.{n}.{leaf}" for n in numbers for leaf in ("weight", "bias")]


def test_lpips_of_equal_pictures_is_0_and_grows_with_the_difference() -> None:
    loss = _perceptual().requires_grad_(False)
    for weight in loss.weights.parameters():
        weight.data.abs_()
    truth, other = _pictures(0, 2, 3, 16, 16), _pictures(1, 2, 3, 16, 16)
    assert float(loss(truth, truth)) == 0.0
    near, far = (float(loss(truth.lerp(other, share), truth)) for share in (0.1, 0.9))
    assert 0 < near < far


def test_lpips_is_the_weighted_distance_of_unit_features() -> None:
    loss = _perceptual().requires_grad_(False)
    made, truth = _pictures(2, 1, 3, 8, 8), _pictures(3, 1, 3, 8, 8)
    want = 0.0
    pairs = [loss.vgg((x - loss.shift) / loss.scale) for x in (made, truth)]
    for ours, theirs, weight in zip(*pairs, loss.weights.parameters(), strict=True):
        square = (F.normalize(ours, dim=1) - F.normalize(theirs, dim=1)) ** 2
        want += float((square * weight).sum(dim=1).mean())
    assert float(loss(made, truth)) == pytest.approx(want, rel=1e-4)


def test_lpips_files_are_read_strictly(tmp_path: Path) -> None:
    full, weights = tmp_path / "vgg16.pth", tmp_path / "vgg.pth"
    vgg = {key: torch.zeros(value.shape) for key, value in Vgg16().state_dict().items()}
    stages = {
        f"lin{i}.model.1.weight": torch.ones(1, n, 1, 1)
        for i, n in enumerate((64, 128, 256, 512, 512))
    }
    torch.save({**vgg, "classifier.0.weight": torch.zeros(2)}, full)
    torch.save(stages, weights)
    loss = PerceptualLoss.load(full, weights)
    assert float(loss.weights.state_dict()["lin.3.weight"].sum()) == 512
    stages["lin5.model.1.weight"] = torch.ones(1, 1, 1, 1)
    torch.save(stages, weights)
    with pytest.raises(StateDictMismatch):
        PerceptualLoss.load(full, weights)


def test_videomae_reads_its_published_keys_and_no_others(tmp_path: Path) -> None:
    model = VideoMae(TINY_VIDEO)
    randomize(model, 4)
    path = tmp_path / "vit.pth"
    head = {"head.weight": torch.zeros(174, 16), "head.bias": torch.zeros(174)}
    torch.save({"module": {**model.state_dict(), **head}}, path)
    loaded = VideoMae.load(path, "cpu", torch.float32, TINY_VIDEO)
    video = torch.rand(1, 3, 4, 28, 28)
    assert torch.equal(loaded(video), model(video))
    assert "blocks.1.attn.q_bias" in model.state_dict()
    torch.save({**model.state_dict(), "pos_embed": torch.zeros(1)}, path)
    with pytest.raises(StateDictMismatch, match="pos_embed"):
        VideoMae.load(path, "cpu", torch.float32, TINY_VIDEO)


def test_the_temporal_loss_is_0_on_the_truth_and_reaches_the_made_frames() -> None:
    model = VideoMae(TINY_VIDEO)
    randomize(model, 4)
    loss = TemporalLoss(model.requires_grad_(False))
    truth = _pictures(5, 2, 4, 3, 20, 20)
    assert float(loss(truth, truth)) == 0.0
    made = _pictures(6, 2, 4, 3, 20, 20).requires_grad_()
    loss(made, truth).backward()
    assert made.grad is not None and float(made.grad.abs().sum()) > 0
    assert float(loss(truth.flip(1), truth)) > 0  # it sees time


def test_the_sync_loss_is_minus_the_logarithm_of_the_cosine() -> None:
    loss = SyncLoss(small_syncnet())
    made = _pictures(7, 1, 16, 3, 32, 32).requires_grad_()
    mel = torch.randn(1, 1, 80, 52, generator=torch.Generator().manual_seed(8))
    value = loss(made, mel)
    assert float(value) == pytest.approx(-np.log(float(loss.cosine(made, mel))), rel=1e-5)
    value.backward()
    assert made.grad is not None
    rows = made.grad.abs().sum(dim=(0, 1, 2, 4))
    assert (
        float(rows[:14].sum()) == 0 < float(rows[16:].sum())
    )  # the lower half, and bicubic's reach


def test_the_sync_mel_has_80_columns_a_second_and_52_for_16_frames() -> None:
    assert sync_mel(np.zeros(16_000, np.float32)).shape == (80, 81)
    assert columns_of(0, 16) == range(0, 52)
    assert columns_of(7, 16) == range(22, 74)


def test_the_sync_mel_shows_a_tone_where_it_is_and_silence_at_its_floor() -> None:
    time = np.arange(16_000) / 16_000
    tone = (0.5 * np.sin(2 * np.pi * 1000 * time)).astype(np.float32)
    mel = sync_mel(np.concatenate([np.zeros(8000, np.float32), tone]))
    assert bool((mel[:, :37] == -4.0).all())
    # 1 kHz on the Slaney scale from 55 to 7600 Hz.
    assert int(mel[:, 60].argmax()) in range(24, 28)
    assert 0.0 < float(mel[:, 60].max()) <= 4.0


def test_sound_of_the_wrong_shape_is_refused() -> None:
    with pytest.raises(AudioFormatError):
        sync_mel(np.zeros((2, 400), np.float32))
