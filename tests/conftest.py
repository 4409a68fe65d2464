"""What tests share: this folder on the path, and one exported tiny model a run."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(scope="session")
def tiny_onnx_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny random model folder with its ONNX graphs, weights in fp16. Read it only."""
    import torch
    from tiny_models import TINY_SPEC, write_random_model

    folder = tmp_path_factory.mktemp("models") / "tiny-onnx"
    write_random_model(folder, TINY_SPEC, dtype=torch.float16, onnx=True)
    return folder
