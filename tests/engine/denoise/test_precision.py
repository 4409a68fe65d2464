"""The 16-bit format is chosen by what it does to the model at hand."""

from __future__ import annotations

import dataclasses
import math

import torch

from engine.denoise.model import TorchModel
from engine.denoise.precision import better_half, half_errors, relative_error
from tests.tiny_models import TINY_SPEC

SPEC = dataclasses.replace(TINY_SPEC, timesteps=(999, 499))
CPU = torch.device("cpu")


def test_f16_is_chosen_for_weights_of_usual_size() -> None:
    unet = TorchModel.random(SPEC, CPU, "f32").unet
    errors = half_errors(unet, SPEC)
    assert 0.0 < errors["f16"] < errors["bf16"] < 0.1
    assert better_half(unet, SPEC) == "f16"


def test_bf16_is_chosen_where_f16_overflows() -> None:
    unet = TorchModel.random(SPEC, CPU, "f32").unet
    unet.conv_in.weight *= 1e5
    errors = half_errors(unet, SPEC)
    assert math.isinf(errors["f16"])
    assert better_half(unet, SPEC) == "bf16"


def test_an_error_is_relative_to_what_was_wanted() -> None:
    want = torch.tensor([3.0, 4.0])
    assert relative_error(want * 1.5, want) == 0.5
    assert math.isinf(relative_error(torch.tensor([3.0, float("nan")]), want))
