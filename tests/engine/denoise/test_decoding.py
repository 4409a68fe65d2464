"""Hops are decoded whole at first, then only in the rows that are shown."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from engine.backends.base import HopInput
from engine.backends.torch_backend import TorchBackend
from engine.denoise.decoding import WHOLE_EVERY_HOPS
from engine.denoise.model import TorchModel
from engine.face.mask import paste_weights
from engine.media import U8
from engine.models.decode_rows import Rows
from engine.spec import CodecSpec
from tests.tiny_models import TINY_SPEC

SMALL_KL = CodecSpec(
    kind="kl", block_out_channels=(8, 8, 8, 8), layers_per_block=1, norm_num_groups=4
)
FACE = dataclasses.replace(TINY_SPEC.face, mask=(0.5, 0.6, 0.4, 0.2))
# Nothing is carried from hop to hop, so equal inputs give equal latents.
WHOLE = dataclasses.replace(TINY_SPEC, codec=SMALL_KL, face=FACE, resolution=64, carry="disjoint")
ROWS = dataclasses.replace(WHOLE, codec=dataclasses.replace(SMALL_KL, decode_rows=True))


@pytest.fixture(scope="module")
def model() -> TorchModel:
    return TorchModel.random(WHOLE, torch.device("cpu"), "f32")


def hops(model: TorchModel, *, rows: bool, count: int, sessions: int = 1) -> list[list[U8]]:
    backend = TorchBackend(model, ROWS if rows else WHOLE, buckets=(1, 2))
    random = np.random.default_rng(0)
    states = [backend.new_session(hop_frames=2, seed=seed) for seed in range(sessions)]
    mel = random.standard_normal((2, 80, WHOLE.audio.mel_frames), np.float32)
    face = random.standard_normal((2, 1, 4, 8, 8), np.float32).repeat(2, axis=1)
    items = [HopInput(state, mel[:1].repeat(2, axis=0), face[0], face[1]) for state in states]
    return [backend.run_hop(items) for _ in range(count)]


def test_shown_rows_are_those_of_a_whole_decode(model: TorchModel) -> None:
    shown = Rows.shown(paste_weights(FACE, 64))
    assert 0 < shown.first < shown.end < 64
    whole = hops(model, rows=False, count=3)
    rows = hops(model, rows=True, count=3)
    assert np.array_equal(rows[0][0], whole[0][0])
    for hop in (1, 2):
        got, want = rows[hop][0].astype(int), whole[hop][0].astype(int)
        inside = slice(shown.first, shown.end)
        assert np.abs(got[:, inside] - want[:, inside]).max() <= 1
        assert (got[:, : shown.first] == 128).all() and (got[:, shown.end :] == 128).all()
        assert want[:, inside].std() > 5.0


def test_whole_pictures_come_now_and_then(model: TorchModel) -> None:
    made = hops(model, rows=True, count=WHOLE_EVERY_HOPS + 1)
    grey = [bool((hop[0][:, 0] == 128).all()) for hop in made]
    assert grey == [False] + [True] * (WHOLE_EVERY_HOPS - 1) + [False]


def test_sessions_carry_moments_of_their_own(model: TorchModel) -> None:
    alone = hops(model, rows=True, count=3)
    among = hops(model, rows=True, count=3, sessions=2)
    for hop, others in zip(alone, among, strict=True):
        assert np.abs(hop[0].astype(int) - others[0].astype(int)).max() <= 1
    assert not np.array_equal(among[2][0], among[2][1])
