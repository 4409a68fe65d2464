from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from engine.errors import ModelError
from engine.models.syncnet import StableSyncNet
from tests.toy_corpus import CLIP_FRAMES, write_toy_corpus
from training.dataset import CropStore, SpeechStore
from training.optimise import Recipe
from training.sync_expert import AVERAGE, CURVE_FILE, RATE, contrastive_loss, main, train
from training.sync_inputs import SOUND
from training.sync_network import (
    NOTE_FILE,
    WEIGHTS_FILE,
    branch_specs,
    load_expert,
    window_choices,
)
from training.sync_pairs import BatchShape, PairSource

ROOT = Path(__file__).resolve().parents[2]
SHAPE = BatchShape(clips=2, windows=3, frames=5)
STEPS = 6
# The command as it is, but it logs and keeps every step.
EVERY_STEP = """
import sys
import training.optimise as optimise
optimise.LOG_EVERY, optimise.CHECKPOINT_EVERY_S = 1, -1
from training.sync_expert import main
sys.exit(main())
"""


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    return write_toy_corpus(tmp_path / "corpus")


def source_of(corpus: Path) -> PairSource:
    store, speech = CropStore.open(corpus / "faces"), SpeechStore(SOUND, corpus / "speech")
    return PairSource(store, speech, SHAPE)


def curve_of(folder: Path) -> list[str]:
    return (folder / CURVE_FILE).read_text().splitlines()


def test_the_loss_counts_neither_pairs_left_out_nor_sources_as_right() -> None:
    seen, heard = torch.eye(3), torch.eye(3)[:2]
    none = torch.zeros(3, 2, dtype=torch.bool)
    right = contrastive_loss(seen, heard, none)
    swapped = contrastive_loss(seen[[1, 0, 2]], heard, none)
    assert right < 0.01 < 10.0 < swapped
    assert contrastive_loss(seen[[1, 0, 2]], heard, ~none & ~torch.eye(3, 2).bool()) < 0.01


def test_a_run_that_was_killed_goes_on_along_the_same_curve(corpus: Path, tmp_path: Path) -> None:
    recipe = Recipe(STEPS, SHAPE.clips * SHAPE.windows, RATE, AVERAGE, fall=0.5)
    whole = train(source_of(corpus), recipe, tmp_path / "whole")

    killed = tmp_path / "killed"
    command = [
        sys.executable, "-c", EVERY_STEP, "--corpus", str(corpus), "--out", str(killed),
        "--steps", str(STEPS), "--frames", "5", "--clips", "2", "--windows", "3",
    ]  # fmt: skip
    process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    for line in process.stderr:  # a step is logged before it is kept: the third may be either
        if "step 3 of 6" in line:
            os.kill(process.pid, signal.SIGKILL)
            break
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert 3 <= len(curve_of(killed)) - 1 <= STEPS

    again = train(source_of(corpus), recipe, killed)
    assert curve_of(killed) == curve_of(tmp_path / "whole")
    for key, value in whole.net.state_dict().items():
        torch.testing.assert_close(again.net.state_dict()[key], value, rtol=0, atol=0)


def test_the_command_writes_an_expert_that_another_run_can_start_from(
    corpus: Path, tmp_path: Path
) -> None:
    out, later = tmp_path / "out", tmp_path / "later"
    options = ["--corpus", str(corpus), "--frames", "5", "--clips", "2", "--windows", "3"]
    assert main([*options, "--out", str(out), "--steps", "2"]) == 0
    assert json.loads((out / NOTE_FILE).read_text())["frames"] == 5
    assert main([*options, "--out", str(later), "--steps", "1", "--start", str(out)]) == 0
    expert = load_expert(out)
    views = np.random.default_rng(0).integers(0, 255, (CLIP_FRAMES, 32, 32, 3), dtype=np.uint8)
    seen = expert.see(views)
    assert seen.shape == (CLIP_FRAMES - 4, 96)
    np.testing.assert_allclose(np.linalg.norm(seen, axis=1), 1.0, atol=1e-5)
    assert expert.see(views[:4]).shape == (0, 96)
    heard = expert.hear(np.zeros((2 * CLIP_FRAMES, 40), np.float32))
    assert heard.shape == seen.shape and expert.hear(np.zeros((8, 40), np.float32)).size == 0


def test_an_experts_folder_without_its_note_or_with_other_weights_is_refused(
    corpus: Path, tmp_path: Path
) -> None:
    with pytest.raises(ModelError, match="expected a sync expert's note"):
        load_expert(tmp_path)
    (tmp_path / NOTE_FILE).write_text('{"frames": 7}')
    with pytest.raises(ModelError, match="expected windows of"):
        load_expert(tmp_path)
    (tmp_path / NOTE_FILE).write_text('{"frames": 5}')
    with pytest.raises(ModelError, match=WEIGHTS_FILE):
        load_expert(tmp_path)


@pytest.mark.parametrize("frames", window_choices())
def test_every_window_length_ends_in_one_pixel(frames: int) -> None:
    net = StableSyncNet(*branch_specs(frames)).eval()
    with torch.no_grad():
        seen, heard = net(torch.rand(1, 3 * frames, 32, 32), torch.rand(1, 1, 40, 2 * frames))
    assert seen.shape == heard.shape == (1, 96)
