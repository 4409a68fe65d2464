from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from engine.models.tiny_codec import TinyCodec
from engine.spec import WARP_CHANNELS, CodecSpec
from tests.toy_corpus import write_toy_corpus
from training.batches import Batch, frame_batch
from training.dataset import CropStore
from training.painting import Critic, SeenDifference, latent_loss, latent_weight
from training.regressor import MouthRegressor


@pytest.fixture
def codec() -> TinyCodec:
    torch.manual_seed(0)
    return TinyCodec(CodecSpec(kind="tiny", latent_channels=4, width=8, blocks=1))


@pytest.fixture
def batch(tmp_path: Path, codec: TinyCodec) -> Batch:
    store = CropStore.open(write_toy_corpus(tmp_path) / "faces")
    return frame_batch(store, codec, 3, "train", seed=5)


def prediction(batch: Batch, motion: torch.Tensor) -> torch.Tensor:
    """The true latents with a motion and a cover that shows nothing of them."""
    cover = torch.full((3, 1, WARP_CHANNELS - 2, 16, 16), -20.0)
    return torch.cat([batch.whole, motion, cover], dim=2)


def test_the_loss_weighs_the_mouth_most_and_the_kept_part_hardly() -> None:
    keep = torch.ones(128, 128)
    keep[32:120, 16:112] = 0.0
    weight = latent_weight(keep, 8)
    assert weight.mean() == pytest.approx(1.0)
    assert weight[8, 8] > 3 * weight[14, 3] > 0
    assert weight[0, 0] < 0.1 * weight[14, 3]
    assert latent_loss(torch.ones(1, 4, 16, 16), torch.zeros(1, 4, 16, 16), weight) == (
        pytest.approx(1.5)
    )


def test_a_critic_finds_no_fault_with_the_true_latents_and_motion(
    batch: Batch, codec: TinyCodec
) -> None:
    critic = Critic(codec, SeenDifference(MouthRegressor()))
    with torch.no_grad():
        errors = critic(prediction(batch, batch.motion), batch, torch.arange(3))
    assert float(errors.latents) == 0.0 == float(errors.motion)
    assert float(errors.picture) > 0.0 < float(errors.seen)


def test_a_critic_compares_the_pictures_of_the_frames_it_is_given(
    batch: Batch, codec: TinyCodec
) -> None:
    still = torch.zeros_like(batch.motion)
    same = Batch(
        batch.pictures,
        batch.pictures,
        still,
        *(batch.whole, batch.reference, batch.masked, batch.mouth, batch.mask, None),
    )
    critic = Critic(codec, SeenDifference(MouthRegressor()))
    unmoved = critic(prediction(batch, still), same, torch.arange(2))
    assert float(unmoved.picture) < 1e-4
    shaken = prediction(batch, still)
    shaken[2, :, 4] = 3.0  # the motion of a frame that is not shown
    hidden = critic(shaken, same, torch.arange(2))
    assert float(hidden.picture) < 1e-4 < float(hidden.motion)


def test_an_identical_picture_looks_and_reads_identical() -> None:
    seen = SeenDifference(MouthRegressor())
    picture = torch.rand(2, 3, 128, 128)
    assert [float(v) for v in seen(picture, picture)] == [0.0, 0.0]
    features, reading = seen(picture, picture.flip(3))
    assert float(features) > 0.1
    assert float(reading) > 0.0


class Readings(nn.Module):
    """In the place of a reader's last layers: reads what it was given."""

    def __init__(self, *rows: list[float]) -> None:
        super().__init__()
        self.rows = [torch.tensor([row]) for row in rows]

    def forward(self, _: torch.Tensor) -> torch.Tensor:
        return self.rows.pop(0)


def misread(read: float, true: float) -> float:
    """The error of a closure that is read as `read` where `true` was meant."""
    seen = SeenDifference(MouthRegressor())
    seen.reading = Readings([0, 0, 0, read, 0, 0, 0], [0, 0, 0, true, 0, 0, 0])
    picture = torch.rand(1, 3, 128, 128)
    return float(seen(picture, picture)[1])


def test_lips_that_should_have_shut_weigh_more_than_lips_that_should_not() -> None:
    assert misread(read=0.0, true=1.0) == pytest.approx(3 * misread(read=1.0, true=0.0))
