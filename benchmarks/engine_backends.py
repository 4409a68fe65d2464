"""What a hop costs on a CPU thread by backend: a part of `lipwire bench engine`.

Backends take turns within a round, so that their ratios hold on a machine that
does other work too; the figures are medians over rounds, in wall clock and in
CPU time of this process (which other processes disturb less).
"""

from __future__ import annotations

import statistics
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch

from benchmarks.engine_cases import Stopwatch, timed_networks
from benchmarks.synthetic import hop_inputs
from engine.backends.base import Backend
from engine.backends.onnx_graphs import GraphBackend, GraphRunner
from engine.backends.onnxruntime_backend import OnnxRuntimeRunner
from engine.backends.openvino_backend import OpenVinoRunner
from engine.backends.torch_backend import TorchBackend
from engine.denoise.model import TorchModel
from engine.media import F32
from engine.spec import ModelSpec

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
        timed = self._stopwatch.timed(STAGES[graph], self._runner.run)
        outputs: list[F32] = timed(graph, inputs)
        return outputs


@contextmanager
def open_backends(
    model_dir: Path, names: Sequence[str], stopwatch: Stopwatch
) -> Iterator[dict[str, Backend]]:
    """The backends to compare, all on one stopwatch."""
    spec = ModelSpec.read(model_dir)
    with ExitStack() as watches:
        backends: dict[str, Backend] = {}
        for name in names:
            engine, precision = name.split("-")
            if engine == "torch":
                model = TorchModel.load(model_dir, torch.device("cpu"), precision)
                watches.enter_context(timed_networks(model, stopwatch))
                backends[name] = TorchBackend(model, spec)
            else:
                runner: GraphRunner = (
                    OpenVinoRunner(model_dir, precision)
                    if engine == "openvino"
                    else OnnxRuntimeRunner(model_dir)
                )
                backends[name] = GraphBackend(spec, TimedRunner(runner, stopwatch))
        yield backends


def compare(
    backends: Mapping[str, Backend], stopwatch: Stopwatch, hop: int, batch: int, rounds: int
) -> list[Row]:
    """One row a backend; the backends take turns."""
    inputs = {name: hop_inputs(backend, hop, batch) for name, backend in backends.items()}
    walls: dict[str, list[float]] = defaultdict(list)
    cpus: dict[str, list[float]] = defaultdict(list)
    stages: dict[str, list[dict[str, float]]] = defaultdict(list)
    for turn in range(rounds + 1):  # the first round warms up
        for name, backend in backends.items():
            stopwatch.take()
            wall, cpu = time.perf_counter(), time.process_time()
            backend.run_hop(inputs[name])
            wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
            if turn:
                walls[name].append(1e3 * wall)
                cpus[name].append(1e3 * cpu)
                shares = stopwatch.take()
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
