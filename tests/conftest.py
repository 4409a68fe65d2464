"""What tests share: one exported tiny model a run."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def tiny_onnx_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny random model folder with its ONNX graphs, weights in fp16. Read it only."""
    import torch

    from tests.tiny_models import TINY_SPEC, write_random_model

    folder = tmp_path_factory.mktemp("models") / "tiny-onnx"
    write_random_model(folder, TINY_SPEC, dtype=torch.float16, onnx=True)
    return folder
