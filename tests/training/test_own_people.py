"""From videos of people to a model that was fine-tuned on them, in miniature."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from accelerate.state import AcceleratorState

from engine.checkpoints import verify_digests
from engine.models.weight_files import WeightFile
from engine.spec import ModelSpec
from tests.prepared_videos import head_video
from tests.toy_finetune import TOY, small_losses, toy_options, write_toy_model
from training.finetune.clips import SkipReport, read_clip, read_listing
from training.finetune.run import Run
from training.prepare.__main__ import main


@pytest.fixture(autouse=True)
def _forget_the_accelerator() -> Iterator[None]:
    """Accelerate keeps the precision of a process's first run."""
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Videos of two people, and in `data` the clips of them."""
    folder = tmp_path_factory.mktemp("people")
    for name in ("anna", "marco"):
        (folder / "videos" / name).mkdir(parents=True)
        head_video(folder / "videos" / name / "talk.mp4", 1.8, name)
    size = ["--resolution", str(TOY.resolution), "--shortest", "1", "--longest", "2"]
    places = ["--videos", str(folder / "videos"), "--out", str(folder / "data")]
    assert main([*places, *size, "--sync", "none", "--min-quality", "0"]) == 0
    return folder


def test_fine_tuning_reads_every_clip_that_was_prepared(folder: Path) -> None:
    report = SkipReport(folder / "skipped.tsv")
    entries = read_listing(folder / "data", 25, report)
    assert sorted(entry.split for entry in entries) == ["train", "validation"]
    assert not (folder / "skipped.tsv").exists()
    for entry in entries:
        clip = read_clip(entry.path, TOY.resolution)
        assert len(clip.pictures) == entry.frames
        assert len(clip.samples) == 640 * entry.frames
        assert clip.pictures.std() > 20


def test_a_toy_model_is_fine_tuned_on_them(folder: Path, tmp_path: Path) -> None:
    torch.set_num_threads(1)
    write_toy_model(tmp_path / "model")
    (tmp_path / "data").symlink_to(folder / "data")
    options = toy_options(tmp_path, 2)
    config = TOY.without("perceptual", "temporal")
    Run(config, options, small_losses).train(lambda step, figures: None)
    tuned = options.out / "model"
    verify_digests(tuned, ModelSpec.read(tuned))
    before = WeightFile(tmp_path / "model" / "unet.safetensors").shapes
    assert set(WeightFile(tuned / "unet.safetensors").shapes) <= set(before)
