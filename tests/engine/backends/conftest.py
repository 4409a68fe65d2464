"""The graphs of one tiny model, for every test of TensorRT's backend."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fake_plans import FakeGpu


@pytest.fixture(scope="session")
def graphs(tiny_onnx_model: Path, tmp_path_factory: pytest.TempPathFactory) -> FakeGpu:
    """In f32, batches of 1, 2 and 4; `fresh` gives a device of one's own."""
    return FakeGpu(tiny_onnx_model, tmp_path_factory.mktemp("graphs"))
