"""Hops are decoded whole, or only in the rows that are shown."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from engine.denoise.decoding import Decoder
from engine.denoise.model import TorchModel
from engine.face.mask import paste_weights
from engine.models.decode_rows import Rows
from engine.models.row_decoder import RowDecoder
from engine.spec import CodecSpec
from tests.tiny_models import TINY_SPEC

SMALL_KL = CodecSpec(
    kind="kl", block_out_channels=(8, 8, 8, 8), layers_per_block=1, norm_num_groups=4
)
FACE = dataclasses.replace(TINY_SPEC.face, mask=(0.5, 0.6, 0.4, 0.2))
WHOLE = dataclasses.replace(TINY_SPEC, codec=SMALL_KL, face=FACE, resolution=64)
ROWS = dataclasses.replace(WHOLE, codec=dataclasses.replace(SMALL_KL, decode_rows=True))


@pytest.fixture(scope="module")
def model() -> TorchModel:
    return TorchModel.random(WHOLE, torch.device("cpu"), "f32")


def test_shown_rows_are_those_of_a_whole_decode(model: TorchModel) -> None:
    shown = Rows.shown(paste_weights(FACE, 64))
    assert 0 < shown.first < shown.end < 64
    # Equal frames in a hop: the one that is decoded whole lends the others exact moments.
    latents = torch.randn(2, 1, 4, 8, 8).expand(-1, 3, -1, -1, -1)
    whole = Decoder(model, WHOLE, lambda call: call).pictures(latents).int()
    rows = Decoder(model, ROWS, lambda call: call).pictures(latents).int()
    assert rows.shape == whole.shape == (2, 3, 64, 64, 3)
    inside = slice(shown.first, shown.end)
    assert (rows[:, :, inside] - whole[:, :, inside]).abs().max() <= 1
    assert (rows[:, :, : shown.first] == 128).all() and (rows[:, :, shown.end :] == 128).all()
    assert whole[:, :, inside].float().std() > 5.0


def test_pictures_round_and_clip_what_the_codec_gives(model: TorchModel) -> None:
    latents = 3.0 * torch.randn(1, 2, 4, 8, 8)
    images = model.codec.decode(latents[0])
    want = np.clip(np.floor(images.numpy() * 127.5 + 128.0), 0, 255).transpose(0, 2, 3, 1)
    assert images.abs().max() > 1.0
    got = Decoder(model, WHOLE, lambda call: call).pictures(latents)[0].numpy()
    assert np.array_equal(got, want)


def test_only_the_rows_asked_for_are_decoded(
    model: TorchModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[int, ...]] = []
    real = RowDecoder.decode_hops

    def noted(self: RowDecoder, latents: torch.Tensor) -> torch.Tensor:
        asked.append(tuple(latents.shape))
        return real(self, latents)

    monkeypatch.setattr(RowDecoder, "decode_hops", noted)
    Decoder(model, WHOLE, lambda call: call).pictures(torch.randn(1, 4, 4, 8, 8))
    assert asked == []
    Decoder(model, ROWS, lambda call: call).pictures(torch.randn(2, 4, 4, 8, 8))
    assert asked == [(2, 4, 4, 8, 8)]
