"""Runs: they learn, go on after any end as if there was none, and leave a model that serves."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
import wave
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from accelerate.state import AcceleratorState

from engine.checkpoints import verify_digests
from engine.denoise.model import TorchModel
from engine.errors import ConfigError, ModelError
from engine.models.weight_files import WeightFile
from engine.spec import ModelSpec
from server import cli
from tests.fakes import speech
from tests.toy_finetune import (
    TOY,
    small_losses,
    toy_options,
    write_toy_clips,
    write_toy_model,
)
from training.finetune import __main__ as command
from training.finetune.clips import read_clip
from training.finetune.run import Run, TrainingError
from training.finetune.state import Curve, load_checkpoint, read_curve, save_checkpoint

RECON = TOY.without("perceptual", "temporal")


@pytest.fixture(autouse=True)
def _forget_the_accelerator() -> Iterator[None]:
    """Accelerate keeps the precision of a process's first run."""
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("toy")
    write_toy_model(folder / "model")
    write_toy_clips(folder / "data")
    return folder


def _curve(out: Path) -> list[dict[str, float]]:
    return read_curve(out / "curve.jsonl")


def _train(folder: Path, steps: int, config: Any = TOY, **changes: Any) -> Run:
    run = Run(config, toy_options(folder, steps, **changes), small_losses)
    run.train(lambda step, figures: None)
    return run


def test_a_killed_run_goes_on_to_the_same_curve(folder: Path, tmp_path: Path) -> None:
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    cut.mkdir()
    for name in ("model", "data"):
        (cut / name).symlink_to(folder / name)
    with subprocess.Popen(
        [sys.executable, "-m", "tests.toy_finetune", str(cut), "1000"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    ) as process:
        assert process.stdin is not None and process.stdout is not None
        for step in (1, 2, 3):  # one more than the checkpoint at 2 has
            assert int(process.stdout.readline()) == step
            if step < 3:
                process.stdin.write("\n")
                process.stdin.flush()
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    assert len(_curve(cut / "out")) == 3

    resumed = Run(TOY, toy_options(cut, 4, validation_clips=0), small_losses)
    assert resumed.step == 2
    resumed.train(lambda step, figures: None)
    _train(folder, 4, out=whole, validation_clips=0)
    assert _curve(cut / "out") == _curve(whole)
    states = [
        load_checkpoint(out / "checkpoints", {}, torch.device("cpu"))
        for out in (cut / "out", whole)
    ]
    assert states[0] is not None and states[1] is not None
    for name, value in states[1]["trained"].items():
        assert torch.equal(states[0]["trained"][name], value)


@pytest.mark.slow
def test_the_loss_goes_down(folder: Path, tmp_path: Path) -> None:
    _train(folder, 40, RECON, out=tmp_path, checkpoint_every=0, validation_clips=0)
    losses = [line["recon"] for line in _curve(tmp_path)]
    assert np.mean(losses[-10:]) < 0.9 * np.mean(losses[:10])


def test_the_result_is_a_model_folder_that_changed_in_its_trained_parts(
    folder: Path, tmp_path: Path
) -> None:
    _train(folder, 2, out=tmp_path)
    spec = ModelSpec.read(tmp_path / "model")
    assert spec.name.endswith("stage2_efficient") and spec.unet.motion_decoder_only
    verify_digests(tmp_path / "model", spec)
    TorchModel.load(tmp_path / "model", torch.device("cpu"))
    base = WeightFile(folder / "model/unet.safetensors")
    made = WeightFile(tmp_path / "model/unet.safetensors")
    before = {key: value.clone() for key, value in base.tensors(base.shapes)}
    changed = {
        key for key, value in made.tensors(made.shapes) if not torch.equal(value, before[key])
    }
    assert changed and all(".motion_modules." in key or ".attn2." in key for key in changed)
    codec = "model/codec.safetensors"
    assert (tmp_path / codec).read_bytes() == (folder / codec).read_bytes()


@pytest.mark.slow
def test_two_processes_do_what_one_does_with_twice_the_batches(
    folder: Path, tmp_path: Path
) -> None:
    two = tmp_path / "two"
    two.mkdir()
    for name in ("model", "data"):
        (two / name).symlink_to(folder / name)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    subprocess.run(
        [*command, "-m", "tests.toy_finetune", str(two), "3"],
        env={**os.environ, "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        check=True,
    )
    _train(folder, 3, out=tmp_path / "one", accumulate=2)
    for ours, theirs in zip(_curve(two / "out"), _curve(tmp_path / "one"), strict=True):
        assert ours == pytest.approx(theirs, rel=1e-3)


@pytest.mark.slow
def test_the_result_renders(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _train(folder, 1, RECON, out=tmp_path, validation_clips=0)
    audio = tmp_path / "a.wav"
    with wave.open(str(audio), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16_000)
        file.writeframes((speech(12) * 32767).astype("<i2").tobytes())
    words = ["render", "--model", str(tmp_path / "model"), "--avatar", "anna"]
    words += ["--audio", str(audio), "--out", str(tmp_path / "out.mp4"), "--json"]
    assert cli.main(words) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["frames"] == 12 and report["generated_frames"] > 0


def test_held_out_clips_are_rendered_beside_the_truth_and_curves_are_kept(
    folder: Path, tmp_path: Path
) -> None:
    _train(folder, 2, RECON, out=tmp_path, validate_every=1, validation_frames=8)
    videos = sorted(path.name for path in (tmp_path / "validation").iterdir())
    assert videos == ["step-00000001-000002.mp4", "step-00000002-000002.mp4"]
    import av

    with av.open(str(tmp_path / "validation" / videos[0])) as video:
        stream = video.streams.video[0]
        assert (stream.width, stream.height, stream.frames) == (64, 32, 8)
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    shown = [event.value for event in events.Scalars("train/recon")]
    assert shown == pytest.approx([line["recon"] for line in _curve(tmp_path)])
    assert len(events.Scalars("validation/error_levels")) == 2
    assert read_clip(folder / "data/clips/000002.mp4", 32).pictures.shape[0] == 14


def test_batches_of_a_step_add_up_and_the_average_is_the_result(
    folder: Path, tmp_path: Path
) -> None:
    run = _train(folder, 2, RECON, out=tmp_path, accumulate=2, average=0.5)
    state = load_checkpoint(tmp_path / "checkpoints", run._identity(), torch.device("cpu"))
    assert state is not None
    name = next(iter(state["average"]))
    weights = WeightFile(tmp_path / "model/unet.safetensors")
    ((_, stored),) = weights.tensors([name])
    assert torch.equal(stored, state["average"][name])
    assert not torch.equal(stored, state["trained"][name])


def test_a_run_is_not_resumed_under_other_numbers(folder: Path, tmp_path: Path) -> None:
    _train(folder, 1, RECON, out=tmp_path, validation_clips=0)
    with pytest.raises(ConfigError, match="batch was 1, is 2"):
        _train(folder, 2, RECON, out=tmp_path, batch=2)


def test_half_precision_trains_in_bf16_on_a_cpu(folder: Path, tmp_path: Path) -> None:
    _train(folder, 2, out=tmp_path, precision="bf16")
    assert all(np.isfinite(line["loss"]) for line in _curve(tmp_path))
    ((_, weight),) = WeightFile(tmp_path / "model/unet.safetensors").tensors(["conv_in.weight"])
    assert weight.dtype is torch.float32  # as the base stores it


def test_steps_without_finite_gradients_change_nothing_and_end_the_run_at_last(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Run(RECON, toy_options(folder, 100, out=tmp_path), small_losses)
    before = {name: value.detach().clone() for name, value in run._networks.trained.items()}
    monkeypatch.setattr(run._accelerator, "clip_grad_norm_", lambda *_: torch.tensor(torch.nan))
    monkeypatch.setattr("training.finetune.run.MOST_LOST_STEPS", 2)
    with pytest.raises(TrainingError, match="finite gradients"):
        run.train(lambda step, figures: None)
    assert len(_curve(tmp_path)) == 2
    assert all(torch.equal(before[name], v) for name, v in run._networks.trained.items())


def test_checkpoints_are_whole_and_only_the_newest_are_kept(tmp_path: Path) -> None:
    cpu = torch.device("cpu")
    assert load_checkpoint(tmp_path / "none", {}, cpu) is None
    for step in (1, 2, 10):
        save_checkpoint(tmp_path, step, {"run": {"seed": 1}, "step": step})
    (tmp_path / "step-00000011.partial").write_bytes(b"half")
    names = sorted(path.name for path in tmp_path.glob("*.pt"))
    assert names == ["step-00000002.pt", "step-00000010.pt"]
    state = load_checkpoint(tmp_path, {"seed": 1}, cpu)
    assert state is not None and state["step"] == 10
    (tmp_path / "step-00000012.pt").write_bytes(b"damaged")
    with pytest.raises(ModelError, match="step-00000012"):
        load_checkpoint(tmp_path, {"seed": 1}, cpu)


def test_a_curve_forgets_what_lies_after_the_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "curve.jsonl"
    curve = Curve(path, 0)
    for step in (1, 2, 3):
        curve.add(step, {"loss": 1.0 / step})
    with path.open("a") as file:
        file.write('{"step": 4, "lo')
    Curve(path, 2).add(3, {"loss": 9.0})
    assert [(line["step"], line["loss"]) for line in read_curve(path)] == [(1, 1), (2, 0.5), (3, 9)]


def test_the_command_trains_a_folder_and_says_what_is_missing(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--config", "toy", "--data", str(folder / "data"), "--out", str(tmp_path)]
    words += ["--model", str(folder / "model"), "--steps", "1", "--validation-frames", "4"]
    words += ["--weights", str(tmp_path)]
    configs: Mapping[str, Any] = {"toy": dataclasses.replace(TOY, name="stage2_efficient")}
    assert command.main(words, configs) == 1
    assert "vgg16-397923af.pth" in capsys.readouterr().err
    assert command.main([*words, "--without", "perceptual", "temporal"], configs) == 0
    assert (tmp_path / "model/model.json").is_file()
