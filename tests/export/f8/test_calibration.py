"""A stream of the model itself gives the ranges: served timesteps, rings carried, always alike."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import torch

from export.f8.calibration import Calibrated, calibrate, served_inputs, served_spec
from export.f8.recipe import KEPT, Recipe, layer_kinds
from export.networks import empty_network
from export.request import ExportRequest
from tests.tiny_models import make_tiny_model

SHORT = Recipe(sessions=1, hops=2)


def test_every_layer_of_the_recipe_has_a_range(
    wide_request: ExportRequest, calibrated: Calibrated
) -> None:
    network = empty_network(wide_request)
    layers = layer_kinds(network.module.get_submodule("unet"), SHORT)
    assert calibrated.quantisation.ranges.keys() == layers.keys()
    assert min(calibrated.quantisation.ranges.values()) > 0.0
    assert set(layers.values()) == set(SHORT.kinds)


def test_what_must_stay_in_16_bits_is_in_no_recipe(wide_request: ExportRequest) -> None:
    unet = empty_network(wide_request).module.get_submodule("unet")
    layers = layer_kinds(unet, SHORT)
    for word in ("conv_in", "conv_out", "time_emb", "audio_film", "attn2.to_k", "attn2.to_v"):
        assert any(word in name for name, _ in unet.named_modules()), word
        assert not any(word in name for name in layers), word
    assert KEPT.fullmatch("down_blocks.1.resnets.0.time_emb_proj")


def test_the_same_stream_gives_the_same_ranges(
    wide_request: ExportRequest, calibrated: Calibrated
) -> None:
    again = calibrate(wide_request, SHORT)
    assert again.quantisation == calibrated.quantisation
    assert again.quantisation.digest() == calibrated.quantisation.digest()


def test_another_recipe_has_another_digest(calibrated: Calibrated) -> None:
    found = calibrated.quantisation
    longer = dataclasses.replace(found, recipe=dataclasses.replace(SHORT, hops=3))
    assert longer.digest() != found.digest()


def test_checked_inputs_are_a_hop_after_those_counted_with_its_rings_filled(
    wide_request: ExportRequest, calibrated: Calibrated
) -> None:
    network = empty_network(wide_request)
    inputs = served_inputs(network, calibrated.rows, 3)
    shapes = [tuple(value.shape) for value in inputs]
    assert shapes == [tensor.at(3) for tensor in network.inputs]
    by_name = dict(zip((tensor.name for tensor in network.inputs), inputs, strict=True))
    assert by_name["sample"].dtype == torch.float16
    assert by_name["timestep"].tolist() == [999.0] * 3
    assert by_name["valid"][0].sum() == 2 * wide_request.hop_frames  # two hops came before
    held = by_name["ring_000"][0, 0].float().flatten(1).abs().amax(dim=1) > 0
    assert torch.equal(held, by_name["valid"][0] > 0)


def test_a_network_that_reads_rings_is_streamed_in_a_mode_that_has_them(tmp_path: Path) -> None:
    make_tiny_model(tmp_path, carry="pinned", hop_frames=4)
    rings = ExportRequest.of(tmp_path, "unet", hop_frames=4)
    whole = ExportRequest.of(tmp_path, "unet", hop_frames=16)
    assert served_spec(rings).carry == "carry"
    assert served_spec(whole).carry == "pinned" and served_spec(whole).hop_frames == 4
