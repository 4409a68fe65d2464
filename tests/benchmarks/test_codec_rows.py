"""The benchmark of decoding rows measures nothing where there is nothing, and something else."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from benchmarks.codec_rows.measure import (
    Clip,
    Difference,
    FrozenWalk,
    NaiveWalk,
    middle_of_hop,
    steepest,
    worst,
)
from benchmarks.codec_rows.small_vae import load_small_vae, save_small_vae, train_small_vae
from engine.models.kl_vae import KlCodec
from engine.spec import CodecSpec

SMALL = CodecSpec(kind="kl", block_out_channels=(8, 8, 8, 8), norm_num_groups=4)


@pytest.fixture(scope="module")
def clip() -> Clip:
    torch.manual_seed(0)
    weights = torch.zeros(64, 64)
    weights[30:45] = 0.5
    codec = KlCodec(SMALL).eval().requires_grad_(False)
    return Clip(codec, torch.randn(4, 4, 8, 8) * 0.18215, weights)


def test_own_moments_make_no_difference_and_others_do(clip: Clip) -> None:
    frames = [1, 2, 3]
    own, off = clip.difference(frames, clip.moments[frames])
    assert own.rows_max < 1e-2 and own.under_one == 1.0
    assert off.shape == (3, 3, 15, 64)
    frozen, _ = clip.difference(frames, clip.whole_moments(frames), FrozenWalk)
    assert frozen.rows_max < 1e-2
    held, _ = clip.difference(frames, clip.moments[:3])
    assert held.rows_max > 0.1
    assert held.pasted_max == pytest.approx(0.5 * held.rows_max)
    assert 0.0 < held.seam_max <= held.pasted_max  # the weights step from 0 to 0.5 at once
    naive, _ = clip.difference(frames, clip.moments[frames], NaiveWalk)
    assert naive.rows_max > 0.1


def test_a_mask_fades_by_its_steepest_step() -> None:
    weights = torch.tensor([[0.0, 0.25, 1.0, 1.0]]).repeat(3, 1)
    assert steepest(weights)[1].tolist() == [0.25, 0.75, 0.75, 1.0]


def test_the_middle_of_a_hop_is_lent_to_all_of_it() -> None:
    assert middle_of_hop(range(4, 12), 4) == [6] * 4 + [10] * 4


def test_the_worst_of_differences_is_kept() -> None:
    one, other = (
        Difference(1.0, 0.25, 0.5, 0.7, 0.1, 1.0),
        Difference(0.5, 0.75, 0.6, 0.3, 0.2, 0.5),
    )
    assert worst([one, other]) == Difference(1.0, 0.5, 0.6, 0.7, 0.2, 0.75)


def test_a_trained_codec_is_kept(tmp_path: Path) -> None:
    pictures = torch.rand(2, 3, 64, 64) * 2.0 - 1.0
    codec, steps = train_small_vae(pictures, seconds=0.2)
    assert steps >= 1 and not codec.training
    save_small_vae(codec, tmp_path / "codec.safetensors", {"steps": "1"})
    latents = torch.randn(1, 4, 4, 4)
    loaded, about = load_small_vae(tmp_path / "codec.safetensors")
    assert about == {"steps": "1"}
    assert torch.allclose(loaded.decode(latents), codec.decode(latents), atol=1e-5)
