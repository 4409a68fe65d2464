"""Layers that cost too much in 8 bits are found, and the network is left as it was."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection

import pytest
import torch

from engine.errors import ModelError
from export.f8.calibration import Calibrated
from export.f8.sensitivity import Trial, emulated, layers_to_keep
from export.networks import Network, loaded_network
from export.request import ExportRequest

SPOILED = "mid_block.resnets.0.conv2"


@pytest.fixture(scope="module")
def network(wide_request: ExportRequest) -> Network:
    return loaded_network(wide_request)


def spoiled(calibrated: Calibrated) -> Calibrated:
    """Only a few layers; one's input is cut off at a thousandth of what it holds."""
    ranges = {
        name: largest for name, largest in calibrated.quantisation.ranges.items() if "mid" in name
    }
    ranges[SPOILED] /= 1000.0
    return dataclasses.replace(
        calibrated, quantisation=dataclasses.replace(calibrated.quantisation, ranges=ranges)
    )


def test_emulation_changes_outputs_while_it_lasts_and_nothing_after(
    network: Network, calibrated: Calibrated
) -> None:
    unet = network.module.get_submodule("unet")
    before = {key: value.clone() for key, value in unet.state_dict().items()}
    with emulated(unet, calibrated.quantisation.ranges):
        pass
    after = unet.state_dict()
    assert after.keys() == before.keys()
    assert all(torch.equal(after[key], value) for key, value in before.items())
    errors = Trial(network, calibrated).errors(list(calibrated.quantisation.ranges))
    assert 1e-3 < errors["out"] < 0.2
    assert set(Trial(network, calibrated).errors([]).values()) == {0.0}


def test_nothing_is_kept_where_all_is_near_enough(network: Network, calibrated: Calibrated) -> None:
    assert layers_to_keep(network, calibrated, lambda _name: 0.5) == {}


def test_the_layer_that_costs_the_most_is_kept_and_no_other(
    network: Network, calibrated: Calibrated
) -> None:
    kept = layers_to_keep(network, spoiled(calibrated), lambda _name: 0.08)
    assert list(kept) == [SPOILED] and kept[SPOILED] > 1.0


def test_where_keeping_the_main_path_is_enough_no_branch_is_tried_alone(
    network: Network, calibrated: Calibrated, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[list[str]] = []
    errors = Trial.errors

    def counted(trial: Trial, layers: Collection[str]) -> dict[str, float]:
        tried.append(list(layers))
        return errors(trial, layers)

    monkeypatch.setattr(Trial, "errors", counted)
    shortcut = "up_blocks.0.resnets.0.conv_shortcut"
    ranges = {
        name: largest
        for name, largest in calibrated.quantisation.ranges.items()
        if "mid" in name or name == shortcut
    }
    ranges[shortcut] /= 1000.0
    quantisation = dataclasses.replace(calibrated.quantisation, ranges=ranges)
    kept = layers_to_keep(
        network, dataclasses.replace(calibrated, quantisation=quantisation), lambda _name: 0.08
    )
    assert list(kept) == [shortcut]
    alone = [layers for layers in tried if len(layers) == 1]
    assert alone == [[shortcut]] and len(ranges) > 5


def test_a_tolerance_that_no_layer_meets_is_an_error(
    network: Network, calibrated: Calibrated
) -> None:
    with pytest.raises(ModelError, match="expected some layers to be near enough"):
        layers_to_keep(network, spoiled(calibrated), lambda _name: 1e-9)
