"""A model wide enough for products in 8 bits, and what a short stream of it shows."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from export.f8.calibration import Calibrated, calibrate
from export.f8.recipe import Recipe
from export.request import ExportRequest
from tests.tiny_models import TINY_SPEC, write_random_model

SHORT = Recipe(sessions=1, hops=2)


@pytest.fixture(scope="session")
def wide_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model whose layers are multiples of 16 wide."""
    folder = tmp_path_factory.mktemp("wide")
    unet = dataclasses.replace(TINY_SPEC.unet, block_out_channels=(16, 32))
    write_random_model(folder, dataclasses.replace(TINY_SPEC, unet=unet))
    return folder


@pytest.fixture(scope="session")
def wide_request(wide_model: Path) -> ExportRequest:
    return ExportRequest.of(wide_model, "unet", batches=(1, 3), precision="f8")


@pytest.fixture(scope="session")
def calibrated(wide_request: ExportRequest) -> Calibrated:
    return calibrate(wide_request, SHORT)
