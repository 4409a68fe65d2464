"""What tests share: one exported tiny model a run, no plan cache, no calibration."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.fake_plans import FakeGpu


@pytest.fixture(scope="session", autouse=True)
def servers_of_tests() -> Iterator[None]:
    """Servers that tests start, in other processes too, keep nothing in the user's cache.

    They also take as many calls as they are told: what a busy machine is measured to hold varies.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LIPWIRE_PLAN_CACHE", "false")
        patch.setenv("LIPWIRE_CALIBRATE", "false")
        yield


@pytest.fixture(scope="session")
def tiny_onnx_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny random model folder with its ONNX graphs, weights in fp16. Read it only."""
    import torch

    from tests.tiny_models import TINY_SPEC, write_random_model

    folder = tmp_path_factory.mktemp("models") / "tiny-onnx"
    write_random_model(folder, TINY_SPEC, dtype=torch.float16, onnx=True)
    return folder


@pytest.fixture(scope="session")
def tiny_gpu(tiny_onnx_model: Path, tmp_path_factory: pytest.TempPathFactory) -> FakeGpu:
    """That model's graphs for TensorRT, in f32, batches of 1, 2 and 4: `fresh` gives a device."""
    from tests.fake_plans import FakeGpu

    return FakeGpu(tiny_onnx_model, tmp_path_factory.mktemp("graphs"))
