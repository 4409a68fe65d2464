"""The published configurations: what they train, and how much of it."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from engine.errors import ConfigError
from engine.models.unet import UNet3DConditionModel
from engine.spec import UNetSpec
from training.finetune.configs import CONFIGS, LossWeights, choose_trainable


@pytest.mark.parametrize(
    ("name", "tensors", "trained", "total"),
    [
        ("stage2", 936, 674_792_320, 1_267_099_844),
        ("stage2_512", 936, 674_792_320, 1_267_099_844),
        ("stage2_efficient", 392, 284_660_480, 1_100_244_804),
    ],
)
def test_as_many_parameters_are_trained_as_upstream_trains(
    name: str, tensors: int, trained: int, total: int
) -> None:
    config = CONFIGS[name]
    with torch.device("meta"):
        unet = UNet3DConditionModel(config.unet_spec(UNetSpec()))
    chosen = choose_trainable(unet, config)
    assert len(chosen) == tensors
    assert sum(parameter.numel() for parameter in chosen.values()) == trained
    assert sum(parameter.numel() for parameter in unet.parameters()) == total
    assert {name for name, p in unet.named_parameters() if p.requires_grad} == set(chosen)


def test_a_part_that_is_in_no_name_is_refused() -> None:
    config = dataclasses.replace(CONFIGS["stage2"], trainable=("motion_modules.", "attn3."))
    with torch.device("meta"):
        unet = UNet3DConditionModel(UNetSpec())
    with pytest.raises(ConfigError, match=r"attn3\."):
        choose_trainable(unet, config)


def test_only_losses_in_pixels_need_a_decoder() -> None:
    assert LossWeights().in_pixels
    assert not LossWeights(perceptual=0, sync=0, temporal=0).in_pixels
    with pytest.raises(ConfigError):
        LossWeights(0, 0, 0, 0)
