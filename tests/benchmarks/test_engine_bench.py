"""The engine's benchmarks at the smallest size: what they count, compare and write."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks import engine, gpu_engine
from benchmarks.engine_cases import Case, Stopwatch, count_case, measure_stages, timed_networks
from benchmarks.engine_run import OutOfTime, time_limit
from benchmarks.hop_flops import FlopCounter
from benchmarks.measure import Deadline, Timing, table
from benchmarks.stream_memory import stream_memory
from benchmarks.synthetic import model_of, spec_of, way_of
from benchmarks.upstream import Upstream, native_norms, upstream_flops, upstream_spec
from engine.backends.torch_backend import TorchBackend
from engine.denoise.model import TorchModel
from engine.errors import ConfigError
from engine.spec import CarryMode

CPU = torch.device("cpu")
SIZE = ("--size", "tiny", "--resolution", "32", "--device", "cpu")


@pytest.fixture(scope="module")
def model() -> TorchModel:
    return model_of("tiny", spec_of("tiny", 32, "tiny"), CPU, "f32")


def read(folder: Path, name: str) -> dict[str, Any]:
    figures: dict[str, Any] = json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))
    return figures


def test_the_published_size_costs_what_was_counted_for_it() -> None:
    spec = spec_of("published")
    carry = FlopCounter(spec).hop(way_of(spec, mode="carry", steps=1, hop=4), 4)
    frame = {"unet": carry.unet / 4e9, "encode": carry.encode / 4e9}
    assert frame["unet"] == pytest.approx(253, rel=0.01)  # GFLOP a frame and step
    assert frame["encode"] == pytest.approx(2 * 273, rel=0.01)


def test_pinned_windows_cost_four_times_a_carried_hop_of_four() -> None:
    spec = spec_of("tiny", 32, "tiny")
    counter = FlopCounter(spec)
    modes: tuple[CarryMode, ...] = ("carry", "pinned")
    cases = [Case(mode, 4, 2, 1, "tiny", "eager") for mode in modes]
    carry, pinned = (count_case(counter, spec, case).unet for case in cases)
    assert 3.4 < pinned / carry <= 4.0
    refresh = Case("carry", 4, 2, 1, "tiny", "eager", refresh_hops=1)
    assert count_case(counter, spec, refresh).unet == pinned


def test_upstream_asks_twice_twenty_times_and_encodes_twice() -> None:
    spec = spec_of("tiny", 32, "tiny")
    counter = FlopCounter(spec)
    way = upstream_spec(spec)
    assert (len(way.timesteps), way.timesteps[-1], way.guidance_scale) == (20, 1, 1.5)
    once = counter.window(16, 1, way, 16)
    flops = counter.hop(way, 16)
    assert flops.unet == pytest.approx(40 * once, rel=0.01)
    assert upstream_flops(counter, spec) == flops.unet + flops.decode + flops.encode


def test_native_norms_give_the_same_window(model: TorchModel) -> None:
    spec = spec_of("tiny", 32, "tiny")
    generator = torch.Generator().manual_seed(0)
    sample = torch.randn(2, spec.unet.in_channels, 5, 4, 4, generator=generator)
    tokens = torch.randn(2, 5, spec.audio.tokens, spec.audio.width, generator=generator)
    time = torch.full((2,), 500.0)
    own = model.unet(sample, time, tokens)
    with native_norms(model.unet):
        native = model.unet(sample, time, tokens)
    assert torch.allclose(own, native, atol=1e-5)
    assert torch.equal(model.unet(sample, time, tokens), own)


def test_upstream_keeps_what_the_mask_keeps(model: TorchModel) -> None:
    upstream = Upstream(model, spec_of("tiny", 32, "tiny"), steps=2)
    crops, tokens, noise = upstream.random_window()
    made = upstream.run_window(crops, tokens, noise)
    assert made.shape == crops.shape and made.dtype == torch.uint8
    assert torch.equal(made[:, :, 0], crops[:, :, 0])  # the first row is above the mask
    assert not torch.equal(made[:, :, 20], crops[:, :, 20])


def test_stages_are_timed_once_each_and_the_networks_are_left_as_they_were(
    model: TorchModel,
) -> None:
    spec = spec_of("tiny", 32, "tiny")
    case = Case("carry", 4, 2, 1, "tiny", "eager")
    row = measure_stages(model, spec, case, rounds=2, limit_s=1.0)
    parts = [float(str(row[key])) for key in ("audio", "unet", "decode", "rest")]
    assert min(parts) > 0.0
    assert sum(parts) == pytest.approx(float(str(row["hop_ms"])), rel=0.3)
    assert row["hop"] == 4
    assert "forward_hop" not in vars(model.unet) and "decode" not in vars(model.codec)
    watch = Stopwatch(CPU)
    with timed_networks(model, watch):
        model.codec.decode(torch.zeros(1, 4, 4, 4))
    assert list(watch.take()) == ["decode"]
    assert watch.take() == {}


def test_memory_of_a_stream_is_read_over_its_minutes(model: TorchModel) -> None:
    way = way_of(spec_of("tiny", 32, "tiny"), mode="carry", steps=1, hop=8)
    backend = TorchBackend(model, way)
    sizes = iter(np.linspace(100.0, 110.0, 100))
    memory = stream_memory(backend, 0.01, 1, {"grows": lambda: float(next(sizes))})
    (grows,) = memory.memories
    assert grows.growth_percent > 3.0
    assert len(grows.readings) == 60
    assert grows.readings[-1][0] == pytest.approx(memory.minutes, abs=0.01)
    assert memory.hops > 50


def test_a_deadline_notes_what_it_refuses() -> None:
    late = Deadline(0.0)
    assert not late.allows("a case", 1.0)
    assert Deadline(1.0).allows("another", 30.0)
    assert late.skipped == ["a case"]


def test_work_that_runs_into_the_limit_is_stopped() -> None:
    with pytest.raises(OutOfTime), time_limit(0.01):
        while True:
            sum(range(1000))


def test_a_timing_is_the_median_and_its_spread() -> None:
    timing = Timing.of([5.0, 1.0, 2.0, 3.0, 100.0])
    assert (timing.median_ms, timing.low_ms, timing.high_ms) == (3.0, 1.0, 100.0)


def test_a_table_aligns_its_columns() -> None:
    assert table([{"a": 1, "bb": None}, {"a": 12.5, "bb": "x"}]) == "   a  bb\n   1   -\n12.5   x\n"


def test_the_bundled_model_has_one_resolution() -> None:
    with pytest.raises(ConfigError, match="128 px"):
        spec_of("bundled", 256)


def test_bench_engine_writes_hops_stages_and_upstream(tmp_path: Path) -> None:
    arguments = [*SIZE, "--codecs", "tiny", "--modes", "carry", "pinned", "--steps", "1"]
    arguments += ["--batches", "1", "--rounds", "1", "--against", "upstream"]
    arguments += ["--upstream-steps", "2", "--out", str(tmp_path)]
    assert engine.main(arguments) == 0
    figures = read(tmp_path, "engine")
    assert [row["mode"] for row in figures["hops"]] == ["carry", "pinned"]
    for row in figures["hops"]:
        times = row["frames_s"] / figures["upstream"]["frames_s"]
        assert row["times_upstream"] == pytest.approx(times, abs=0.02)
        assert row["sessions_25fps"] == pytest.approx(row["frames_s"] / 25, rel=0.01)
    assert {row["mode"] for row in figures["stages"]} == {"carry", "pinned"}
    assert figures["ceilings"]["tflops"]["f32"] > 0
    assert (tmp_path / "engine.html").read_text(encoding="utf-8").count("<svg") >= 1


def test_bench_engine_compares_backends_on_the_bundled_model(tmp_path: Path) -> None:
    arguments = ["--hops", "4", "--steps", "1", "--rounds", "1", "--no-stages", "--device", "cpu"]
    arguments += ["--backends", "onnxruntime-f32", "torch-f32", "--out", str(tmp_path)]
    assert engine.main(arguments) == 0
    rows = read(tmp_path, "engine")["backends"]
    assert [row["backend"] for row in rows] == ["onnxruntime-f32", "torch-f32"]
    assert all(row["stages_ms"]["unet"] > 0 for row in rows)


def test_entry_1_has_every_case_it_promises() -> None:
    cases = set(gpu_engine.cases())
    for mode in ("carry", "pinned"):
        for steps in (1, 2, 4):
            for codec in ("kl", "taesd"):
                of_way = {c for c in cases if (c.mode, c.steps, c.codec) == (mode, steps, codec)}
                captured = {c.batch for c in of_way if c.execution == "graphs"}
                assert captured == {1, 2, 4, 8, 16}
                assert {c.execution for c in of_way} == {"graphs", "eager", "compiled-graphs"}


def test_entry_1_runs_small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu_engine, "MODES", ("carry",))
    monkeypatch.setattr(gpu_engine, "STEPS", (2,))
    monkeypatch.setattr(gpu_engine, "CODECS", ("tiny",))
    monkeypatch.setattr(gpu_engine, "ROWS_CODEC", "kl-rows")
    arguments = [*SIZE, "--out", str(tmp_path), "--batches", "1", "--upstream-steps", "2"]
    arguments += ["--rounds", "1", "--limit-s", "0.1", "--stream-minutes", "0.001"]
    assert gpu_engine.main(arguments) == 0
    figures = read(tmp_path, "gpu_engine")
    assert not figures["skipped"]
    assert {row["codec"] for row in figures["hops"]} == {"tiny", "kl-rows"}
    assert {row["execution"] for row in figures["hops"]} == {"graphs", "eager"}
    assert [row["refresh_hops"] for row in figures["refresh"]] == [8, 16, 32]
    goals = {goal["what"]: goal for goal in figures["targets"]}
    share = goals["share of the measured ceiling, carry, 2 steps"]
    assert share["reached"] == max(
        row["ceiling_share"]
        for row in figures["hops"]
        if row["mode"] == "carry" and row["refresh_hops"] == 0
    )
    assert figures["stream"][0]["sessions"] == 1
    assert {row["decoded"] for row in figures["decoders"]} >= {"whole"}


def test_entry_1_names_what_it_had_no_time_for(tmp_path: Path) -> None:
    arguments = [*SIZE, "--out", str(tmp_path), "--batches", "1", "--minutes", "0"]
    assert gpu_engine.main(arguments) == 0
    figures = read(tmp_path, "gpu_engine")
    assert figures["hops"] == []
    assert "carry hop 4 2 steps batch 1 taesd graphs" in figures["skipped"]
    assert [goal["reached"] for goal in figures["targets"]] == [None, None]


def test_refreshing_every_eighth_hop_costs_an_eighth_of_the_difference() -> None:
    row = {"mode": "carry", "steps": 2, "execution": "graphs", "codec": "kl", "batch": 4}
    hops = [{**row, "refresh_hops": 0, "hop_ms": 10.0}, {**row, "refresh_hops": 1, "hop_ms": 42.0}]
    costs = gpu_engine.refresh_costs({"hops": hops})
    assert [(cost["refresh_hops"], cost["hop_ms"]) for cost in costs] == [
        (8, 14.0),
        (16, 12.0),
        (32, 11.0),
    ]


def test_the_gpu_commands_import_without_what_a_bare_gpu_machine_lacks() -> None:
    absent = ("aiortc", "av", "openvino", "diffusers", "fastapi", "websockets", "pydantic_settings")
    code = (
        "import sys\n"
        f"sys.modules.update(dict.fromkeys({absent!r}))\n"
        "import benchmarks.gpu_engine, benchmarks.gpu_numerics\n"
        "import benchmarks.gpu_kernels, benchmarks.gpu_latency\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
