"""Weights with other keys: every one of them is accounted for."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from engine.errors import ModelError, StateDictMismatch
from training.strict_weights import load_renamed


def _renamed(key: str) -> str:
    return "" if key.startswith("head.") else key.removeprefix("module.")


def _write(path: Path, **more: torch.Tensor) -> Path:
    state = {"module.weight": torch.ones(2, 3), "module.bias": torch.zeros(2)}
    torch.save({"module": {**state, **more}}, path)
    return path


def test_keys_are_renamed_and_named_parts_left_out(tmp_path: Path) -> None:
    path = _write(tmp_path / "w.pth", **{"head.weight": torch.ones(9)})
    layer = load_renamed(lambda: nn.Linear(3, 2), path, _renamed, dtype=torch.bfloat16)
    assert layer.weight.dtype is torch.bfloat16 and bool((layer.weight == 1).all())
    assert not layer.weight.requires_grad


def test_a_key_too_many_or_too_few_is_named(tmp_path: Path) -> None:
    path = _write(tmp_path / "w.pth", **{"module.scale": torch.ones(9)})
    with pytest.raises(StateDictMismatch) as caught:
        load_renamed(lambda: nn.Linear(3, 2), path, _renamed)
    assert caught.value.unexpected == ["scale"]
    with pytest.raises(StateDictMismatch) as caught:
        load_renamed(lambda: nn.Bilinear(3, 3, 2), path, _renamed)
    assert "weight" in caught.value.misshapen


def test_a_file_that_is_absent_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"absent\.pth"):
        load_renamed(lambda: nn.Linear(3, 2), tmp_path / "absent.pth")
