"""Pretraining of the audio encoder on a corpus of a few random clips."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from engine.audio.log_mel import log_mel_frames
from engine.media import F32, FRAME_SAMPLES, MEL_HOP_SAMPLES, MEL_WINDOW_SAMPLES
from engine.models.whisper import WhisperEncoder
from engine.spec import AudioSpec
from training.audio_encoder import (
    MouthReader,
    Plan,
    Trainer,
    Windows,
    mouth_loss,
    predict,
    read_windows,
    save,
    to_log_mel,
    train,
    vary,
)
from training.mouth import CLOSURE
from training.speech.clips import Clip
from training.speech.corpus import write_clips
from training.speech.features import log_power

SPEC = AudioSpec(n_mels=80, width=16, layers=1, heads=2, positions=14, log_floor=-5.0)
CLIP_FRAMES = (40, 30)


def clip(frames: int, seed: int) -> Clip:
    rng = np.random.default_rng(seed)
    mouth = rng.uniform(0, 1, (frames, 7)).astype(np.float32)
    loudness = np.repeat(mouth[:, 0], FRAME_SAMPLES) * 0.3
    samples = (loudness * rng.standard_normal(frames * FRAME_SAMPLES)).clip(-1, 1)
    return Clip(samples.astype(np.float32), mouth, "none", "none", "en", "speech", False, ())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_clips(tmp_path / "train", [clip(n, seed) for seed, n in enumerate(CLIP_FRAMES)])
    return tmp_path


@pytest.fixture
def windows(folder: Path) -> Windows:
    return read_windows(folder / "train", SPEC)


def window_by_the_rule(samples: F32, frame: int) -> F32:
    """Log-mel frames [4 i + 12 - 2 P, 4 i + 12), frame m centred at sample 160 m."""
    first = 4 * frame + 12 - SPEC.mel_frames
    begin = first * MEL_HOP_SAMPLES - MEL_WINDOW_SAMPLES // 2
    length = (SPEC.mel_frames - 1) * MEL_HOP_SAMPLES + MEL_WINDOW_SAMPLES
    stream = np.pad(samples, (length, length))
    return log_mel_frames(stream[begin + length : begin + 2 * length], SPEC)


def test_a_window_is_what_the_engine_will_feed(folder: Path, windows: Windows) -> None:
    audio = np.load(folder / "train" / "audio.npy").astype(np.float32) / 32767.0
    clips = {0: audio[: 40 * FRAME_SAMPLES], 40: audio[40 * FRAME_SAMPLES :]}
    for start, samples in clips.items():
        for frame in (0, 3, 20, 29):
            power = windows.batch(torch.tensor([start + frame]), SPEC.mel_frames)
            mel = to_log_mel(power, SPEC.log_floor)[0].numpy()
            np.testing.assert_allclose(mel, window_by_the_rule(samples, frame), atol=2e-3)


def test_log_power_covers_every_frame_and_no_more() -> None:
    rows = log_power(np.zeros(10 * FRAME_SAMPLES, np.float32), SPEC)
    assert rows.shape == (4 * 9 + SPEC.mel_frames, 80)


def test_history_ends_with_the_row_of_the_frame_itself(windows: Windows) -> None:
    torch.manual_seed(0)
    reader = MouthReader(SPEC)
    mel = to_log_mel(windows.batch(torch.tensor([5, 60]), SPEC.mel_frames), SPEC.log_floor)
    with torch.no_grad():
        history, rows = reader.history(mel), reader(mel)
    assert history.shape == (2, 3, 7)
    torch.testing.assert_close(history[:, -1], rows)


def test_true_history_rests_before_its_clip(windows: Windows) -> None:
    history = windows.history(torch.tensor([0, 1, 40, 45]), 3)
    assert not history[0, :2].any()
    assert not history[1, 0].any()
    assert not history[2, :2].any()
    torch.testing.assert_close(history[3], windows.mouth[43:46])


def test_varied_power_stays_finite_and_repeats_with_its_generator(windows: Windows) -> None:
    power = windows.batch(torch.arange(20), SPEC.mel_frames)
    once = vary(power, torch.Generator().manual_seed(1))
    again = vary(power, torch.Generator().manual_seed(1))
    assert once.shape == power.shape
    assert torch.isfinite(once).all()
    assert not torch.equal(once, power)
    torch.testing.assert_close(once, again)


def test_shut_lips_count_more() -> None:
    open_lips, shut = torch.zeros(1, 7), torch.zeros(1, 7)
    shut[0, CLOSURE] = 1.0
    missed = torch.zeros(1, 7)
    called = torch.zeros(1, 7)
    called[0, CLOSURE] = 1.0
    assert mouth_loss(missed, shut) > mouth_loss(called, open_lips)


def test_training_learns_and_saves(windows: Windows, tmp_path: Path) -> None:
    trainer = Trainer(SPEC, Plan(steps=1000, seed=3))
    losses = [trainer.learn(windows) for _ in range(25)]
    assert np.mean(losses[-5:]) < 0.7 * losses[0]
    save(trainer, {"none": {}}, tmp_path)
    encoder = WhisperEncoder(SPEC)
    encoder.load_state_dict(load_file(tmp_path / "audio_encoder.safetensors"))
    note = json.loads((tmp_path / "audio_encoder.json").read_text(encoding="utf-8"))
    assert AudioSpec(**note["audio"]) == SPEC
    assert note["losses"] == [pytest.approx(np.mean(losses), abs=1e-5)]
    assert predict(trainer.average, windows).shape == (sum(CLIP_FRAMES), 7)
    second = Trainer(SPEC, Plan(10, start_from=tmp_path / "audio_encoder.safetensors"))
    torch.testing.assert_close(
        second.reader.encoder.state_dict(), trainer.average.encoder.state_dict()
    )


def test_a_killed_run_goes_on_step_for_step(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = Plan(steps=7, batch=16)
    whole = train(folder, tmp_path / "whole", plan, SPEC, checkpoint_steps=3)
    learn = Trainer.learn

    def die_at_five(trainer: Trainer, windows: Windows) -> float:
        if trainer.step == 5:
            raise KeyboardInterrupt
        return learn(trainer, windows)

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(Trainer, "learn", die_at_five)
        train(folder, tmp_path / "cut", plan, SPEC, checkpoint_steps=3)
    (tmp_path / "cut" / "audio_encoder.checkpoint.part").write_bytes(b"half written")
    assert train(folder, tmp_path / "cut", plan, SPEC, checkpoint_steps=3) == whole
    ends = [load_file(tmp_path / run / "audio_encoder.safetensors") for run in ("whole", "cut")]
    for key, weights in ends[0].items():
        torch.testing.assert_close(ends[1][key], weights, rtol=0, atol=0)


def test_minutes_stop_a_run_where_it_can_be_taken_up(folder: Path, tmp_path: Path) -> None:
    plan = Plan(steps=4, batch=16)
    assert len(train(folder, tmp_path / "out", plan, SPEC, minutes=0.0)) == 1
    assert len(train(folder, tmp_path / "out", plan, SPEC)) == 4
