"""The kernels' references are the engine's own layers, and the kernels compute what they do."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from benchmarks import gpu_kernels
from benchmarks.hop_profile import by_kind, kind_of_operator, profile_hop
from benchmarks.kernels import group_norm, temporal_attention
from benchmarks.kernels.workloads import AttentionShape, NormShape, workloads_of
from benchmarks.synthetic import spec_of
from engine.models.frame_windows import FrameWindows
from engine.models.resnet import FrameGroupNorm
from engine.models.temporal import TemporalAttention

SMALL = ("--size", "tiny", "--resolution", "32", "--device", "cpu", "--codec", "tiny")
QUICK = ("--batch", "1", "--shapes", "1", "--rounds", "2", "--limit-s", "0.1")


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def test_the_norm_s_reference_is_the_engine_s_norm() -> None:
    norm = FrameGroupNorm(4, 8, per_frame=False)
    with torch.no_grad():
        norm.weight.copy_(random(8, seed=1))
        norm.bias.copy_(random(8, seed=2))
    x, ring = random(2 * 3, 8, 5, 5), random(2, 2, 4, 4, seed=3).abs()
    valid = torch.tensor([[0.0, 1.0, 1.0, 1.0]] * 2)
    windows = FrameWindows.of_hop(3, valid, [], [ring])
    want = F.silu(norm(x, windows))
    present = torch.cat([valid, torch.ones(2, 3)], dim=1)
    got, moments = group_norm.reference(x, norm.weight, norm.bias, ring, present)
    torch.testing.assert_close(got, want)
    torch.testing.assert_close(moments, windows.new_moments[0])


def test_the_attention_s_reference_is_the_engine_s_attention() -> None:
    layer = TemporalAttention(8, 2, 16)
    x, ring = random(2, 3, 5, 8), random(2, 2, 4, 5, 8, seed=1)
    carried = torch.tensor([5, 3])  # frame n lies in slot n mod 4
    places = (torch.arange(4) - carried[:, None]) % 4
    filled = (places >= 4 - carried[:, None]).float()
    want = layer(x, FrameWindows.of_hop(3, filled, [ring], [], places))
    table = layer.pos_encoder.pe[0, :7]
    projected = torch.stack([layer.to_q(table), layer.to_k(table), layer.to_v(table)])
    oldest = (carried % 4).int()
    valid = (torch.arange(4) >= 4 - carried[:, None]).float()
    own = torch.stack([layer.to_k(x), layer.to_v(x)], dim=1)
    mixed = temporal_attention.reference(layer.to_q(x), own, ring, oldest, valid, projected, 2)
    torch.testing.assert_close(layer.to_out[0](mixed), want)


def test_the_published_network_s_layers_are_counted() -> None:
    loads = workloads_of(spec_of("published"))
    assert loads.norms.total() == 45
    assert loads.norms[NormShape(320, 32, 32)] == 8
    assert loads.attentions[AttentionShape(1024, 320, 8)] == 10
    assert loads.attentions.total() == 40


def test_operators_are_sorted_into_kinds() -> None:
    kinds = {
        "aten::mkldnn_convolution": "convolution",
        "aten::addmm": "linear",
        "aten::_scaled_dot_product_flash_attention": "attention",
        "aten::native_layer_norm": "norms",
        "aten::copy_": "copies",
        "aten::silu": "elementwise and other",
    }
    assert {name: kind_of_operator(name) for name in kinds} == kinds


def test_a_profile_finds_the_operators_of_a_call() -> None:
    a = random(64, 64)
    operators = profile_hop(lambda: torch.nn.functional.silu(a @ a), torch.device("cpu"), rounds=2)
    assert {item.name: item.calls for item in operators}["aten::mm"] == 1.0
    assert set(by_kind(operators)) >= {"linear", "elementwise and other"}


def test_entry_5_runs_small_and_holds_every_candidate_to_its_tolerance(tmp_path: Path) -> None:
    assert gpu_kernels.main([*SMALL, *QUICK, "--out", str(tmp_path)]) == 0
    figures = json.loads((tmp_path / "gpu_kernels.json").read_text(encoding="utf-8"))
    found = {(row["what"], row["candidate"]) for row in figures["candidates"]}
    assert {("linear", "fp8"), ("tiny decoder", "channels last")} <= found
    assert all(row["right"] for row in figures["candidates"])
    assert figures["profile"]["by_kind"]["convolution"] > 0


@pytest.mark.skipif(
    importlib.util.find_spec("triton") is None, reason="pip install triton, 200 MB, to check it"
)
def test_triton_s_kernels_interpreted_compute_what_their_references_do(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "benchmarks.gpu_kernels", *SMALL, *QUICK]
    environment = {**os.environ, "TRITON_INTERPRET": "1"}
    done = subprocess.run(
        [*command, "--out", str(tmp_path)],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    figures = json.loads((tmp_path / "gpu_kernels.json").read_text(encoding="utf-8"))
    kernels = [row for row in figures["candidates"] if row["candidate"].startswith("triton")]
    assert len(kernels) == 5 and all(row["right"] for row in kernels)
