"""A training step's memory, counted and measured, at the smallest size."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from benchmarks import gpu_finetune
from benchmarks.finetune_memory import StorageCounter, step_memory
from benchmarks.finetune_networks import TINY_LOSSES
from benchmarks.synthetic import spec_of
from training.finetune.configs import CONFIGS, LossWeights

CONFIG = dataclasses.replace(CONFIGS["stage2_efficient"], resolution=32)
SPEC = spec_of("tiny", 32, "kl")


def test_storages_count_while_they_live_and_views_count_once() -> None:
    with FakeTensorMode(), StorageCounter() as counter:
        counter.begin("all")
        a = torch.empty(1000)
        b = a.reshape(10, 100).t()
        assert counter.live == 4000
        c = a + 1
        assert counter.live == 8000
        del a, b
        assert counter.live == 4000
        c += 1
        assert counter.live == 4000
    assert counter.peaks == {"all": 8000}


def test_a_product_keeps_its_inputs_for_the_way_back() -> None:
    with FakeTensorMode(), StorageCounter() as counter:
        counter.begin("all")
        x = torch.empty(8, 8, requires_grad=True)
        y = (x * 2).sin().sum()
        # x, what sin keeps, and the sum.
        assert counter.live == 256 + 256 + 4
        y.backward()  # type: ignore[no-untyped-call]
        del y
        assert counter.live == 2 * 256  # x and its gradient


@pytest.mark.slow
def test_recomputing_takes_less_memory() -> None:
    config = dataclasses.replace(CONFIG, losses=LossWeights(perceptual=0, sync=0, temporal=0))
    thrifty = step_memory(config, SPEC, sizes=TINY_LOSSES)
    wasteful = step_memory(config, SPEC, recompute=False, sizes=TINY_LOSSES)
    assert wasteful.peak > 1.3 * thrifty.peak
    assert wasteful.networks == thrifty.networks
    assert thrifty.optimizer == 2 * thrifty.gradients > 0


def test_entry_2_runs_small(tmp_path: Path) -> None:
    arguments = ["--size", "tiny", "--resolution", "32", "--device", "cpu", "--out", str(tmp_path)]
    arguments += ["--configs", "stage2_efficient", "--precision", "f32", "--rounds", "1"]
    assert gpu_finetune.main(arguments) == 0
    figures = json.loads((tmp_path / "gpu_finetune.json").read_text(encoding="utf-8"))
    (row,) = figures["steps"]
    assert row["computed peak GB"] > row["networks GB"] + row["optimiser GB"]
    assert row["step ms"] > 0 and row["published GB"] == 20.0
    assert 0 < row["last loss"] < 100
    assert (tmp_path / "gpu_finetune.html").is_file()
