"""What a hop costs on a CPU thread, by stage, backend, hop length and batch.

    python -m benchmarks.engine_cpu --model bundled --json benchmarks/results/engine_cpu.json

Backends take turns within a round, so that their ratios hold on a machine that
does other work too; the figures are medians over rounds, in wall clock and in
CPU time of this process (which other processes disturb less).
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import ParamSpec, TypeVar

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from engine.backends.base import Backend, HopInput
from engine.backends.onnx_graphs import GraphBackend, GraphRunner
from engine.backends.onnxruntime_backend import OnnxRuntimeRunner
from engine.backends.openvino_backend import OpenVinoRunner
from engine.backends.torch_backend import TorchBackend
from engine.backends.torch_backend import open_model as open_torch
from engine.checkpoints import resolve_model
from engine.denoise.model import TorchModel
from engine.media import F32
from engine.spec import ModelSpec

P = ParamSpec("P")
R = TypeVar("R")

HOPS = (1, 2, 4, 8)
BATCHES = (1, 2, 4)
STAGES = {
    "audio_encoder": "audio",
    "unet": "unet",
    "codec_decoder": "decode",
    "codec_encoder": "encode",
}


@dataclass(frozen=True, slots=True)
class Row:
    """One backend at one hop length and batch.

    Attributes:
        hop_ms: wall clock of `run_hop` for the whole batch.
        hop_cpu_ms: CPU time of the same.
        frame_ms: wall clock a frame of one session.
        stages_ms: wall clock by stage; "rest" holds the rings, the U-Net's
            input and the pictures' conversion.
        relative: hop_cpu_ms over that of the first backend at this hop and batch.
    """

    backend: str
    hop: int
    batch: int
    hop_ms: float
    hop_cpu_ms: float
    frame_ms: float
    stages_ms: dict[str, float]
    relative: float


class Stopwatch:
    """Seconds by stage."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)

    def timed(self, stage: str, call: Callable[P, R]) -> Callable[P, R]:
        """`call`, its time added to a stage."""

        def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
            start = time.perf_counter()
            try:
                return call(*args, **kwargs)
            finally:
                self.seconds[stage] += time.perf_counter() - start

        return wrapped


class TimedRunner:
    """A graph runner whose runs are timed by graph."""

    def __init__(self, runner: GraphRunner, stopwatch: Stopwatch) -> None:
        self.name = runner.name
        self._runner = runner
        self._stopwatch = stopwatch

    def ring_shapes(self) -> list[tuple[int, int]]:
        return self._runner.ring_shapes()

    def compile(self, graph: str, shapes: Mapping[str, tuple[int, ...]]) -> None:
        self._runner.compile(graph, shapes)

    def run(self, graph: str, inputs: Mapping[str, F32]) -> list[F32]:
        return self._stopwatch.timed(STAGES[graph], self._runner.run)(graph, inputs)


def timed_torch(model_dir: Path, stopwatch: Stopwatch) -> TorchBackend:
    """The torch backend on this CPU with its modules timed."""
    model = TorchModel.load(model_dir, torch.device("cpu"))
    for module, method, stage in (
        (model.audio_encoder, "forward", "audio"),
        (model.unet, "forward_hop", "unet"),
        (model.codec, "decode", "decode"),
        (model.codec, "encode", "encode"),
    ):
        setattr(module, method, stopwatch.timed(stage, getattr(module, method)))
    return TorchBackend(model, ModelSpec.read(model_dir))


def open_backends(
    model_dir: Path, names: Sequence[str], stopwatch: Stopwatch
) -> dict[str, Backend]:
    """The backends to compare, all on one stopwatch."""
    spec = ModelSpec.read(model_dir)
    makers: dict[str, Callable[[], Backend]] = {
        "openvino-bf16": lambda: GraphBackend(
            spec, TimedRunner(OpenVinoRunner(model_dir, "bf16"), stopwatch)
        ),
        "openvino-f32": lambda: GraphBackend(
            spec, TimedRunner(OpenVinoRunner(model_dir, "f32"), stopwatch)
        ),
        "onnxruntime-f32": lambda: GraphBackend(
            spec, TimedRunner(OnnxRuntimeRunner(model_dir), stopwatch)
        ),
        "torch-cpu-f32": lambda: timed_torch(model_dir, stopwatch),
    }
    return {name: makers[name]() for name in names}


def random_batch(backend: Backend, hop: int, batch: int) -> list[HopInput]:
    """Sessions with random inputs."""
    spec = backend.spec
    rng = np.random.default_rng(0)
    shape = (spec.codec.latent_channels, spec.latent_size, spec.latent_size)
    mel_shape = (hop, spec.audio.n_mels, spec.audio.mel_frames)
    return [
        HopInput(
            backend.new_session(hop_frames=hop, seed=session),
            rng.standard_normal(mel_shape, np.float32),
            rng.standard_normal((hop, *shape), np.float32),
            rng.standard_normal((hop, *shape), np.float32),
        )
        for session in range(batch)
    ]


def measure(
    backends: Mapping[str, Backend], stopwatch: Stopwatch, hop: int, batch: int, rounds: int
) -> list[Row]:
    """One row a backend; the backends take turns."""
    inputs = {name: random_batch(backend, hop, batch) for name, backend in backends.items()}
    walls: dict[str, list[float]] = defaultdict(list)
    cpus: dict[str, list[float]] = defaultdict(list)
    stages: dict[str, list[dict[str, float]]] = defaultdict(list)
    for turn in range(rounds + 1):  # the first round warms up
        for name, backend in backends.items():
            stopwatch.seconds.clear()
            wall, cpu = time.perf_counter(), time.process_time()
            backend.run_hop(inputs[name])
            wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
            if turn:
                walls[name].append(1e3 * wall)
                cpus[name].append(1e3 * cpu)
                shares = {stage: 1e3 * spent for stage, spent in stopwatch.seconds.items()}
                stages[name].append({**shares, "rest": 1e3 * wall - sum(shares.values())})
    rows = []
    base = statistics.median(cpus[next(iter(backends))])
    for name in backends:
        wall_ms, cpu_ms = statistics.median(walls[name]), statistics.median(cpus[name])
        rows.append(
            Row(
                backend=name,
                hop=hop,
                batch=batch,
                hop_ms=round(wall_ms, 2),
                hop_cpu_ms=round(cpu_ms, 2),
                frame_ms=round(wall_ms / (hop * batch), 2),
                stages_ms={
                    stage: round(statistics.median(item[stage] for item in stages[name]), 2)
                    for stage in stages[name][0]
                },
                relative=round(cpu_ms / base, 2),
            )
        )
    return rows


def gflop_per_frame(model_dir: Path, hop: int) -> dict[str, float]:
    """Counted GFLOP (2 x multiply-add) a frame, by stage and in all."""
    backend = open_torch(model_dir)
    spec = backend.spec
    counts: dict[str, float] = {}

    def count(stage: str, call: Callable[[], object]) -> None:
        with FlopCounterMode(display=False) as counter:
            call()
        counts[stage] = round(counter.get_total_flops() / hop / 1e9, 4)

    crops = np.zeros((hop, spec.resolution, spec.resolution, 3), np.uint8)
    count("encode", lambda: backend.encode(crops, masked=True))
    batch = random_batch(backend, hop, 1)
    count("hop", lambda: backend.run_hop(batch))
    counts["all"] = round(sum(counts.values()), 4)
    return counts


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures, writes the JSON and a table; the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.engine_cpu",
        description="Time a hop on one CPU thread by stage, backend, hop length and batch.",
        epilog="example: python -m benchmarks.engine_cpu --model bundled --hops 4 --rounds 20",
    )
    names = ("openvino-bf16", "openvino-f32", "onnxruntime-f32", "torch-cpu-f32")
    parser.add_argument("--model", default="bundled", help="model name or folder")
    parser.add_argument("--json", type=Path, help="write the figures here")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--hops", type=int, nargs="+", default=HOPS)
    parser.add_argument("--batches", type=int, nargs="+", default=BATCHES)
    parser.add_argument("--backends", nargs="+", choices=names, default=names)
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    model_dir = resolve_model(options.model)
    stopwatch = Stopwatch()
    backends = open_backends(model_dir, options.backends, stopwatch)
    rows: list[Row] = []
    for hop in options.hops:
        for batch in options.batches:
            rows += measure(backends, stopwatch, hop, batch, options.rounds)
            for row in rows[-len(backends) :]:
                stages = "  ".join(f"{stage} {spent}" for stage, spent in row.stages_ms.items())
                sys.stdout.write(
                    f"hop {hop} batch {batch}  {row.backend:<16} {row.hop_ms:8.2f} ms a hop "
                    f"({row.hop_cpu_ms:.2f} of CPU)  {row.frame_ms:6.2f} ms a frame  "
                    f"x{row.relative:<5} {stages}\n"
                )
    report = {
        "model": ModelSpec.read(model_dir).name,
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, one thread a backend",
        "load_average": os.getloadavg()[0],
        "gflop_per_frame": {str(hop): gflop_per_frame(model_dir, hop) for hop in options.hops},
        "rows": [asdict(row) for row in rows],
    }
    sys.stdout.write(f"GFLOP a frame: {json.dumps(report['gflop_per_frame'])}\n")
    if options.json is not None:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
