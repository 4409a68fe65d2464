"""A request for f8 is calibrated and tried with one copy of the weights at a time."""

from __future__ import annotations

import weakref
from pathlib import Path
from typing import Any

import pytest
import torch

from engine.denoise.model import TorchModel
from export.f8 import prepare
from export.f8.recipe import Recipe
from export.networks import Network, loaded_network
from export.request import ExportRequest


def test_the_weights_of_the_stream_are_gone_before_they_are_read_again(
    wide_request: ExportRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    streamed: list[weakref.ref[torch.nn.Module]] = []
    load = TorchModel.load

    def watched_load(model_dir: Path, *options: Any) -> TorchModel:
        model = load(model_dir, *options)
        streamed.append(weakref.ref(model.unet))
        return model

    def checked_load(request: ExportRequest) -> Network:
        assert len(streamed) == 1 and streamed[0]() is None
        return loaded_network(request)

    monkeypatch.setattr(TorchModel, "load", watched_load)
    monkeypatch.setattr(prepare, "loaded_network", checked_load)
    recipe = Recipe(kinds=("feed_forward",), sessions=1, hops=1)
    request, rows = prepare.prepared(wide_request, recipe)
    assert request.quantisation is not None and request.quantisation.ranges
    assert len(rows) == 1
