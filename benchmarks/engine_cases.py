"""One way to run hops, and what it takes: time by stage, memory, operations, sessions."""

from __future__ import annotations

import dataclasses
import math
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import torch

from benchmarks.hop_flops import FlopCounter, HopFlops
from benchmarks.measure import Ceilings, memory_mb, peak_memory_mb, reset_peak, time_call
from benchmarks.synthetic import CodecName, hop_inputs, way_of
from engine.backends.torch_backend import TorchBackend
from engine.denoise.model import TorchModel
from engine.media import FPS
from engine.spec import CarryMode, ModelSpec

Execution = Literal["eager", "graphs", "compiled", "compiled-graphs"]
EXECUTIONS = get_args(Execution)
MODES = get_args(CarryMode)
FRAME_MS = 1000.0 / FPS


@dataclass(frozen=True, slots=True)
class Case:
    """One way to run hops.

    Attributes:
        refresh_hops: in mode "carry"; 1 makes every hop a refresh, 0 none.
    """

    mode: CarryMode
    hop: int
    steps: int
    batch: int
    codec: CodecName
    execution: Execution
    refresh_hops: int = 0

    def label(self) -> str:
        refresh = f" refresh {self.refresh_hops}" if self.refresh_hops else ""
        return (
            f"{self.mode}{refresh} hop {self.hop} {self.steps} steps batch {self.batch} "
            f"{self.codec} {self.execution}"
        )

    def eager(self) -> Case:
        """The same, neither compiled nor captured."""
        return dataclasses.replace(self, execution="eager")

    def way(self, spec: ModelSpec) -> ModelSpec:
        """The spec run in this way."""
        return way_of(
            spec, mode=self.mode, steps=self.steps, hop=self.hop, refresh_hops=self.refresh_hops
        )


@dataclass(frozen=True, slots=True)
class CaseFigures:
    """What a case took.

    Attributes:
        hop_ms: wall clock of `run_hop` for the whole batch, from numpy to numpy; low and high
            are its 10th and 90th percentile.
        frames_s: frames a second of all sessions together, faces prepared.
        sessions_25fps: such sessions that this throughput feeds.
        gflop_frame: counted, faces prepared.
        ceiling_share: counted operations a second over the measured matrix product's.
        peak_mb: of the device during the hops, weights and rings included; on a CPU of the
            process so far.
        session_mb: what one session carries.
        first_hop_s: the first call, with compilation and capture.
    """

    mode: str
    refresh_hops: int
    hop: int
    steps: int
    batch: int
    codec: str
    execution: str
    hop_ms: float
    hop_low_ms: float
    hop_high_ms: float
    rounds: int
    frame_ms: float
    frames_s: float
    sessions_25fps: float
    gflop_frame: float
    ceiling_share: float
    peak_mb: float
    session_mb: float
    first_hop_s: float


def open_case(model: TorchModel, spec: ModelSpec, case: Case) -> TorchBackend:
    """The backend that runs a case."""
    return TorchBackend(
        model,
        case.way(spec),
        buckets=(case.batch,),
        graphs=case.execution.endswith("graphs"),
        compiled=case.execution.startswith("compiled"),
    )


def fill_hops(way: ModelSpec) -> int:
    """Hops after which a session's context is full."""
    return math.ceil((way.window_frames - way.hop_frames) / way.hop_frames) + 1


def measure_case(
    model: TorchModel,
    spec: ModelSpec,
    case: Case,
    flops: HopFlops,
    ceilings: Ceilings,
    *,
    rounds: int,
    limit_s: float,
) -> CaseFigures:
    """The figures of a case, in the steady state: contexts are full before the clock runs."""
    device = model.device
    reset_peak(device)
    backend = open_case(model, spec, case)
    inputs = hop_inputs(backend, case.hop, case.batch)
    began = time.perf_counter()
    backend.run_hop(inputs)
    first = time.perf_counter() - began
    hop = time_call(
        lambda: backend.run_hop(inputs),
        device,
        rounds=rounds,
        warmup=fill_hops(backend.spec),
        limit_s=limit_s,
        wall=True,
    )
    frames = case.hop * case.batch
    work = flops.hop * case.batch
    return CaseFigures(
        mode=case.mode,
        refresh_hops=case.refresh_hops,
        hop=case.hop,
        steps=case.steps,
        batch=case.batch,
        codec=case.codec,
        execution=case.execution,
        hop_ms=round(hop.median_ms, 3),
        hop_low_ms=round(hop.low_ms, 3),
        hop_high_ms=round(hop.high_ms, 3),
        rounds=hop.rounds,
        frame_ms=round(hop.median_ms / frames, 3),
        frames_s=round(1e3 * frames / hop.median_ms, 2),
        sessions_25fps=round(frames * FRAME_MS / hop.median_ms, 2),
        gflop_frame=round(flops.hop / case.hop / 1e9, 3),
        ceiling_share=round(ceilings.share(work, hop.median_ms, model.precision), 4),
        peak_mb=round(peak_memory_mb(device), 1),
        session_mb=round(backend.session_bytes.get(case.hop, 0) / 1e6, 2),
        first_hop_s=round(first, 3),
    )


def count_case(counter: FlopCounter, spec: ModelSpec, case: Case) -> HopFlops:
    """The operations of one session's hop of a case."""
    return counter.hop(case.way(spec), case.hop, refresh=case.refresh_hops == 1)


class Stopwatch:
    """Milliseconds by stage: device events on CUDA, the wall clock elsewhere.

    Stages must not run inside each other.
    """

    def __init__(self, device: torch.device) -> None:
        self._on_gpu = device.type == "cuda"
        self._walls: dict[str, float] = defaultdict(float)
        self._events: list[tuple[str, Any, Any]] = []

    def timed(self, stage: str, call: Callable[..., Any]) -> Callable[..., Any]:
        """`call`, its time added to a stage."""

        def wrapped(*args: Any, **kwargs: Any) -> Any:
            if self._on_gpu:
                begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
                begin.record()
                result = call(*args, **kwargs)
                end.record()
                self._events.append((stage, begin, end))
                return result
            start = time.perf_counter()
            result = call(*args, **kwargs)
            self._walls[stage] += 1e3 * (time.perf_counter() - start)
            return result

        return wrapped

    def take(self) -> dict[str, float]:
        """The stages since the last take; the device must have finished them."""
        for stage, begin, end in self._events:
            self._walls[stage] += float(begin.elapsed_time(end))
        stages = dict(self._walls)
        self._events.clear()
        self._walls.clear()
        return stages


@contextmanager
def timed_networks(model: TorchModel, stopwatch: Stopwatch) -> Iterator[None]:
    """The model's networks on a stopwatch, as the stages audio, unet, decode and encode.

    A backend must be made inside and run there, neither compiled nor captured.
    """
    watched: tuple[tuple[Any, str, str], ...] = (
        (model.audio_encoder, "forward", "audio"),
        (model.unet, "forward_hop", "unet"),
        (model.unet, "forward_window", "unet"),
        (model.codec, "decode", "decode"),
        (model.codec, "encode", "encode"),
    )
    for module, method, stage in watched:
        setattr(module, method, stopwatch.timed(stage, getattr(module, method)))
    try:
        yield
    finally:
        for module, method, _ in watched:
            delattr(module, method)


def measure_stages(
    model: TorchModel, spec: ModelSpec, case: Case, *, rounds: int, limit_s: float
) -> dict[str, object]:
    """Milliseconds of a hop by stage, run eagerly, and of the two encodings beside it.

    "rest" is what lies between the networks and around them: inputs to the device, rings read and
    written, noise, the sampler, pictures to the host.
    """
    stopwatch = Stopwatch(model.device)
    samples: dict[str, list[float]] = defaultdict(list)
    with timed_networks(model, stopwatch):
        backend = open_case(model, spec, case.eager())
        inputs = hop_inputs(backend, case.hop, case.batch)
        frames = case.hop * case.batch
        crops = np.zeros((frames, spec.resolution, spec.resolution, 3), np.uint8)
        warmup, began = fill_hops(backend.spec), time.perf_counter()
        for turn in range(warmup + rounds):
            if turn == warmup:
                began = time.perf_counter()
            if turn > warmup and time.perf_counter() - began > limit_s:
                break
            backend.encode(crops, masked=True)
            backend.encode(crops, masked=False)
            encode = stopwatch.take().get("encode", 0.0)
            start = time.perf_counter()
            backend.run_hop(inputs)
            whole = 1e3 * (time.perf_counter() - start)
            stages = stopwatch.take()
            if turn >= warmup:
                for stage in ("audio", "unet", "decode"):
                    samples[stage].append(stages.get(stage, 0.0))
                samples["rest"].append(whole - sum(stages.values()))
                samples["hop_ms"].append(whole)
                samples["encode_twice"].append(encode)
    median = {stage: round(float(np.median(values)), 3) for stage, values in samples.items()}
    return {
        "mode": case.mode,
        "hop": case.hop,
        "steps": case.steps,
        "batch": case.batch,
        "codec": case.codec,
        "unet_step": round(median["unet"] / case.steps, 3),
        **median,
        "memory_mb": round(memory_mb(model.device), 1),
    }
