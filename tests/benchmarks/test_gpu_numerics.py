"""Number formats and window modes held against each other, at the smallest size."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from benchmarks import gpu_numerics
from benchmarks.kernels.fp8_linear import Fp8Linear, replace_linears, scaled_rows
from benchmarks.mode_distances import Clip, boundary_ratio, key_ages, stream_latents
from benchmarks.precisions import Distance, in_precision
from benchmarks.synthetic import model_of, spec_of, way_of
from engine.denoise.model import TorchModel
from engine.spec import ModelSpec

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def way() -> ModelSpec:
    return way_of(spec_of("tiny", 32, "tiny"), mode="carry", steps=1, hop=4)


@pytest.fixture(scope="module")
def model(way: ModelSpec) -> TorchModel:
    return model_of("tiny", way, CPU, "f32")


def test_a_distance_is_relative_to_the_reference() -> None:
    want = torch.tensor([3.0, -4.0])
    distance = Distance.of(torch.tensor([3.0, -3.0]), want)
    assert distance.relative == pytest.approx(1 / 5)
    assert distance.largest == pytest.approx(1 / 4)
    assert Distance.of(torch.tensor([3.0, float("inf")]), want).finite is False
    assert Distance.of(want, want).psnr_db is None


def test_rows_in_8_bits_use_their_whole_range() -> None:
    x = torch.randn(6, 32, generator=torch.Generator().manual_seed(0)) * 1e-3
    values, scale = scaled_rows(x)
    assert values.float().abs().amax(dim=1).tolist() == [448.0] * 6
    assert Distance.of(values.float() * scale, x).relative == pytest.approx(0.026, abs=0.006)
    assert torch.equal(scaled_rows(torch.zeros(1, 4))[0].float(), torch.zeros(1, 4))


def test_an_8_bit_layer_lies_near_the_layer_it_replaces() -> None:
    torch.manual_seed(0)
    layer = nn.Linear(64, 32).requires_grad_(False)
    x = torch.randn(3, 5, 64)
    distance = Distance.of(Fp8Linear(layer)(x), layer(x))
    assert distance.relative is not None and 0.005 < distance.relative < 0.06


def test_only_layers_that_the_device_takes_are_replaced() -> None:
    module = nn.Sequential(nn.Linear(16, 32), nn.Linear(32, 5), nn.Sequential(nn.Linear(48, 16)))
    assert replace_linears(module) == 2
    assert isinstance(module[1], nn.Linear)


def test_another_precision_leaves_the_model_as_it_was(model: TorchModel) -> None:
    before = {key: value.clone() for key, value in model.unet.state_dict().items()}
    other = in_precision(model, "fp8")
    assert any(isinstance(module, Fp8Linear) for module in other.unet.modules())
    after = model.unet.state_dict()
    assert all(torch.equal(after[key], value) for key, value in before.items())


def test_a_seam_at_every_hop_is_seen() -> None:
    steps = np.repeat(np.arange(8, dtype=np.float32), 4)
    smooth = np.arange(32, dtype=np.float32) * 0.1
    jumpy = (smooth + steps)[:, None, None, None]
    assert boundary_ratio(smooth[:, None, None, None], 4) == pytest.approx(1.0, abs=1e-4)
    assert boundary_ratio(jumpy, 4) == pytest.approx(11.0, rel=1e-3)


def test_without_temporal_layers_new_frames_do_not_depend_on_what_is_carried(
    way: ModelSpec, model: TorchModel
) -> None:
    still = dataclasses.replace(way, unet=dataclasses.replace(way.unet, per_frame_norm=True))
    frozen = model_of("tiny", still, CPU, "f32")
    for name, parameter in frozen.unet.named_parameters():
        if "temporal_transformer.proj_out" in name:
            parameter.zero_()
    clip = Clip.random(still, 24)
    assert [age.latents for age in key_ages(frozen, still, clip)] == pytest.approx(
        [0.0] * 5, abs=1e-5
    )
    carried = key_ages(model, way, clip)
    assert [age.hops for age in carried] == [1, 2, 3, 4, 5]
    for age in carried:
        assert age.latents is not None and age.latents > 0.01
        assert 0.0 < age.keys_worst < age.keys < 0.999


def test_a_refresh_at_every_hop_is_pinned(way: ModelSpec, model: TorchModel) -> None:
    clip = Clip.random(way, 24)
    pinned = stream_latents(model, dataclasses.replace(way, carry="pinned"), clip)
    refreshed = stream_latents(model, dataclasses.replace(way, refresh_hops=1), clip)
    np.testing.assert_allclose(refreshed, pinned, atol=1e-4)


def test_entry_3_runs_small_and_ranks_the_formats(tmp_path: Path) -> None:
    arguments = ["--size", "tiny", "--resolution", "32", "--device", "cpu", "--out", str(tmp_path)]
    arguments += ["--codec", "tiny", "--steps", "1", "--hops", "3", "--frames", "32"]
    assert gpu_numerics.main(arguments) == 0
    figures = json.loads((tmp_path / "gpu_numerics.json").read_text(encoding="utf-8"))
    relative = {(r["component"], r["precision"]): r["relative"] for r in figures["components"]}
    for component in ("unet hop", "unet window", "whole hop, latents"):
        ranked = [relative[component, precision] for precision in ("f16", "bf16", "fp8")]
        assert ranked == sorted(ranked)
    assert relative["audio encoder", "f16"] < 2e-3
    modes = {row["mode"]: row for row in figures["modes"]}
    assert modes["carry/4"]["to pinned"] < modes["carry"]["to pinned"]
    assert len(figures["key_ages"]) == 3
