from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from engine.backends.base import HopInput
from engine.backends.torch_backend import open_model
from engine.checkpoints import CODEC_FILE, TINY_DECODER_FILE, load_codec, verify_digests
from engine.errors import ConfigError
from engine.models.kl_vae import KlCodec
from engine.models.taesd import KlTaesdCodec
from engine.published import LATENTSYNC_1_5
from engine.spec import CodecSpec
from tests.published_models import TINY_PUBLISHED
from tests.tiny_models import TINY_SPEC, write_random_model
from training.dataset import Split
from training.distil_codec import (
    CHECKPOINT,
    SeenDifference,
    distil,
    fidelity,
    fresh_student,
    load_teacher,
    student_spec,
)
from training.optimise import Recipe

TEACHER = dataclasses.replace(
    TINY_PUBLISHED,
    codec=CodecSpec(kind="kl", block_out_channels=(8, 8, 8, 8), norm_num_groups=8),
)
RECIPE = Recipe(steps=3, batch=1, rate=1e-3, warmup=1)


def noise_crops(count: int, split: Split, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(count, 3, 32, 32, generator=generator) * 2 - 1


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("teacher")
    write_random_model(folder, TEACHER)
    return folder


def test_the_student_loads_through_the_engine_and_serves(teacher: Path, tmp_path: Path) -> None:
    written = distil(teacher, tmp_path, noise_crops, RECIPE)
    assert written == dataclasses.replace(student_spec(TEACHER), digests=written.digests)
    verify_digests(tmp_path, written)
    codec = load_codec(tmp_path, written)
    assert isinstance(codec, KlTaesdCodec)
    picture = noise_crops(1, "test", 0)
    whole = load_teacher(teacher, TEACHER, torch.device("cpu"))
    assert torch.equal(codec.encode(picture), whole.encode(picture))
    backend = open_model(tmp_path)
    audio = written.audio
    mel = np.zeros((4, audio.n_mels, audio.mel_frames), np.float32)
    latents = np.zeros((4, 4, 4, 4), np.float32)
    state = backend.new_session(hop_frames=4, seed=0)
    (made,) = backend.run_hop([HopInput(state, mel, latents, latents)])
    assert made.crops.shape == (4, 32, 32, 3)


def test_a_distillation_that_was_killed_goes_on_as_if_it_had_not_been(
    teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    distil(teacher, tmp_path / "whole", noise_crops, RECIPE)
    monkeypatch.setattr("training.optimise.CHECKPOINT_EVERY_S", -1.0)  # after every step

    def dies_before_the_last(count: int, split: Split, seed: int) -> Tensor:
        if seed == RECIPE.steps - 1:
            raise KeyboardInterrupt
        return noise_crops(count, split, seed)

    with pytest.raises(KeyboardInterrupt):
        distil(teacher, tmp_path / "again", dies_before_the_last, RECIPE)
    distil(teacher, tmp_path / "again", noise_crops, RECIPE)
    states = [
        torch.load(tmp_path / name / CHECKPOINT, weights_only=True) for name in ("whole", "again")
    ]
    assert states[0]["means"] == states[1]["means"]
    for key, value in states[0]["module"].items():
        assert torch.equal(value, states[1]["module"][key]), key


def test_a_student_of_the_published_latents_stays_under_its_budget_at_256() -> None:
    with torch.device("meta"):
        student = fresh_student(student_spec(LATENTSYNC_1_5))
        latents = torch.zeros(1, 4, 32, 32)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        assert student(latents).shape == (1, 3, 256, 256)
    assert counter.get_total_flops() < 35e9


def test_it_starts_from_the_weights_it_is_given(tmp_path: Path) -> None:
    torch.manual_seed(0)
    stored = {f"decoder.{k}": v for k, v in fresh_student(TEACHER).state_dict().items()}
    path = tmp_path / "taesd.safetensors"
    save_file({**stored, "encoder.layers.0.bias": torch.zeros(64)}, path)
    started = fresh_student(TEACHER, path).state_dict()
    assert all(torch.equal(started[key.removeprefix("decoder.")], stored[key]) for key in stored)
    save_file({"decoder.layers.0.bias": torch.zeros(64)}, path)
    with pytest.raises(ConfigError, match="Missing key"):
        fresh_student(TEACHER, path)


def test_a_student_that_repeats_its_teacher_is_as_far_from_the_truth(teacher: Path) -> None:
    whole = load_teacher(teacher, TEACHER, torch.device("cpu"))

    class Repeats(torch.nn.Module):
        def forward(self, latents: Tensor) -> Tensor:
            return whole.decode(latents)

    found = fidelity(whole, Repeats(), TEACHER, noise_crops(2, "test", 1))
    assert found.lips_to_teacher == found.whole_to_teacher > 100  # the limit of an error of zero
    assert found.lips_to_truth == found.lips_teacher < 40
    assert found.whole_to_truth == found.whole_teacher


def test_the_perceptual_loss_teaches_the_picture_and_not_the_encoder(teacher: Path) -> None:
    whole = load_teacher(teacher, TEACHER, torch.device("cpu"))
    assert isinstance(whole, KlCodec)
    seen, aim = SeenDifference(whole.encoder), noise_crops(1, "train", 2)
    assert float(seen(aim, aim)) == 0.0
    shown = noise_crops(1, "train", 3).requires_grad_()
    seen(shown, aim).backward()
    assert shown.grad is not None and bool(shown.grad.abs().max() > 0)
    assert all(value.grad is None for value in whole.parameters())


def test_a_model_without_a_kl_decoder_is_no_teacher(tmp_path: Path) -> None:
    write_random_model(tmp_path / "tiny", TINY_SPEC)
    with pytest.raises(ConfigError, match="a KL codec and its own decoder, got 'tiny'"):
        distil(tmp_path / "tiny", tmp_path / "out", noise_crops, RECIPE)


def test_the_students_file_holds_its_decoder_alone(teacher: Path, tmp_path: Path) -> None:
    distil(teacher, tmp_path, noise_crops, dataclasses.replace(RECIPE, steps=1))
    assert all(key.startswith("decoder.") for key in load_file(tmp_path / TINY_DECODER_FILE))
    assert load_file(tmp_path / CODEC_FILE).keys() == load_file(teacher / CODEC_FILE).keys()
