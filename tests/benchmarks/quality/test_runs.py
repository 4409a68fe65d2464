"""Running takes hop by hop."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.quality.runs import Case, FolderOpener, own_case, run_case
from benchmarks.quality.torch_runs import PairedSession, TorchOpener
from engine.errors import BackendError
from tests.tiny_models import TINY_SPEC, make_tiny_model
from tests.toy_takes import ToyOpener, toy_takes


def test_takes_go_round_and_are_cut_to_whole_hops() -> None:
    takes = toy_takes(21)
    run = run_case(ToyOpener(), Case("causal", 4, (999,)), takes, 50)
    assert [len(clip) for clip in run.clips] == [48, 48]
    for clip in run.clips:
        np.testing.assert_array_equal(clip[21:42], clip[:21])
    assert run.latents is not None and run.latents[0].shape == (48, 4, 4, 4)
    assert run.frame_ms > 0.0


def test_what_is_not_generated_is_the_source() -> None:
    takes = toy_takes(16)
    run = run_case(ToyOpener(fade=50.0), own_case(TINY_SPEC), takes, 16)
    for clip, take in zip(run.clips, takes, strict=True):
        np.testing.assert_array_equal(clip[:, 0], take.source[:, 0])
        assert np.abs(clip[8].astype(int) - take.truth[8]).max() > 100


def test_with_the_wrong_sound_the_mouths_are_the_other_takes() -> None:
    takes = toy_takes(16)
    right = run_case(ToyOpener(), own_case(TINY_SPEC), takes, 16)
    wrong = run_case(ToyOpener(), own_case(TINY_SPEC), takes, 16, wrong_sound=True)
    np.testing.assert_array_equal(wrong.clips[0], right.clips[1])


@pytest.mark.parametrize(
    "case",
    [
        Case("causal", 4, (999,)),
        Case("disjoint", 8, (999, 499)),
        Case("pinned", 8, (999,), guidance_scale=1.5),
    ],
    ids=lambda case: str(case.way),
)
def test_torch_gives_the_pictures_of_run_hop_and_the_latents_behind_them(
    tmp_path: Path, case: Case
) -> None:
    make_tiny_model(tmp_path / "model")
    torch.set_num_threads(1)
    takes = toy_takes(24)
    opener = TorchOpener(tmp_path / "model", "cpu")
    run = run_case(opener, case, takes, 24)
    plain = run_case(FolderOpener(tmp_path / "model", "torch"), case, takes, 24)
    assert plain.latents is None and run.latents is not None
    for ours, theirs in zip(run.clips, plain.clips, strict=True):
        assert np.abs(ours.astype(int) - theirs).max() <= 1
    assert np.std(run.latents[0]) > 0.0


def test_a_codec_that_decodes_rows_is_measured_with_its_rows(tmp_path: Path) -> None:
    codec = dataclasses.replace(
        TINY_SPEC.codec, kind="kl", decode_rows=True, block_out_channels=(8, 8, 8, 8),
        layers_per_block=1, norm_num_groups=4,
    )  # fmt: skip
    make_tiny_model(tmp_path / "model", codec=codec)
    torch.set_num_threads(1)
    opener = TorchOpener(tmp_path / "model", "cpu")
    runner = opener.open(opener.spec)
    assert isinstance(runner.new_session(hop_frames=4, seed=0), PairedSession)
    takes = toy_takes(12)
    case = own_case(opener.spec)
    run = run_case(opener, case, takes, 12)
    plain = run_case(FolderOpener(tmp_path / "model", "torch"), case, takes, 12)
    for ours, theirs in zip(run.clips, plain.clips, strict=True):
        assert np.abs(ours.astype(int) - theirs).max() <= 1
    assert run.latents is not None
    whole = run_case(opener, dataclasses.replace(case, published=True), takes, 12)
    assert whole.latents is not None
    np.testing.assert_allclose(whole.latents[0], run.latents[0], atol=1e-5)


def test_a_backend_that_cannot_run_a_mode_says_so(tiny_onnx_model: Path) -> None:
    opener = FolderOpener(tiny_onnx_model, "onnxruntime")
    with pytest.raises(BackendError):
        run_case(opener, Case("pinned", 4, (999,)), toy_takes(8), 8)
    run = run_case(opener, own_case(opener.spec), toy_takes(8), 8)
    assert len(run.clips[0]) == 8
