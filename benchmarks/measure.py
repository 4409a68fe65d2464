"""How the engine's benchmarks measure: the clock, the ceilings, the counts, the report.

A figure is a median over rounds after a warm-up, by device events on CUDA and by the wall clock
elsewhere. A share of a ceiling refers to the rate that a plain matrix product reached on the same
device in the same run, never to a datasheet.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.report import Circumstances, cpu_name

DTYPES = {"f32": torch.float32, "bf16": torch.bfloat16, "f16": torch.float16}
FP8 = torch.float8_e4m3fn

WARMUP_ROUNDS = 3
CUDA_MATRIX = 8192  # rows of the matrix product that measures the ceiling
CPU_MATRIX = 512
CUDA_COPY_BYTES = 1 << 31
CPU_COPY_BYTES = 1 << 26

_PACKAGES = ("torch", "triton")


@dataclass(frozen=True, slots=True)
class Timing:
    """Milliseconds of one call.

    Attributes:
        median_ms, low_ms, high_ms: the middle, the 10th and the 90th percentile of the rounds.
    """

    median_ms: float
    low_ms: float
    high_ms: float
    rounds: int

    @classmethod
    def of(cls, samples_ms: Sequence[float]) -> Timing:
        """The timing of these rounds."""
        ordered = sorted(samples_ms)
        last = len(ordered) - 1
        return cls(
            statistics.median(ordered),
            ordered[round(0.1 * last)],
            ordered[round(0.9 * last)],
            len(ordered),
        )


def synchronize(device: torch.device) -> None:
    """Returns once the device has done all that it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def time_calls(
    calls: Sequence[Callable[[], object]],
    device: torch.device,
    *,
    rounds: int = 20,
    warmup: int = WARMUP_ROUNDS,
    limit_s: float = 10.0,
    wall: bool = False,
) -> Timing:
    """What one of `calls` takes; they take turns, so that none finds its inputs in the cache.

    Args:
        calls: the same work on inputs of their own.
        rounds: timed calls, at most.
        limit_s: no further round begins after this time; one always runs.
        wall: by the wall clock on any device, for calls that end with the device at rest.
    """
    turn = 0

    def step() -> None:
        nonlocal turn
        calls[turn % len(calls)]()
        turn += 1

    for _ in range(warmup):
        step()
    synchronize(device)
    samples: list[float] = []
    began = time.perf_counter()
    while len(samples) < rounds and (not samples or time.perf_counter() - began < limit_s):
        samples.append(_timed_ms(step, device, wall=wall))
    return Timing.of(samples)


def time_call(
    call: Callable[[], object],
    device: torch.device,
    *,
    rounds: int = 20,
    warmup: int = WARMUP_ROUNDS,
    limit_s: float = 10.0,
    wall: bool = False,
) -> Timing:
    """What `call` takes."""
    return time_calls([call], device, rounds=rounds, warmup=warmup, limit_s=limit_s, wall=wall)


def _timed_ms(call: Callable[[], object], device: torch.device, *, wall: bool) -> float:
    if wall or device.type != "cuda":
        start = time.perf_counter()
        call()
        return 1e3 * (time.perf_counter() - start)
    begin = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
    end = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
    begin.record()
    call()
    end.record()
    end.synchronize()
    return float(begin.elapsed_time(end))


def has_fp8(device: torch.device) -> bool:
    """Whether the device multiplies 8-bit floats (compute capability 8.9 and above)."""
    return device.type == "cuda" and torch.cuda.get_device_capability(device) >= (8, 9)


@dataclass(frozen=True, slots=True)
class Ceilings:
    """What the device reached in this run.

    Attributes:
        tflops: by precision, a square matrix product on random data, in its fastest tenth of
            rounds: beside other work a ceiling would come out too low, and its shares too high.
        matrix: its size.
        gb_s: a device copy, bytes read plus bytes written.
    """

    tflops: dict[str, float]
    matrix: int
    gb_s: float

    def share(self, flops: float, milliseconds: float, precision: str) -> float:
        """The part of the ceiling at which `flops` ran."""
        return flops / (milliseconds * 1e9) / self.tflops[precision]


def measure_ceilings(device: torch.device) -> Ceilings:
    """The device's ceilings: matrix products in f32 (no tf32), bf16, fp16 and fp8, and a copy."""
    on_gpu = device.type == "cuda"
    size = CUDA_MATRIX if on_gpu else CPU_MATRIX
    flops = 2.0 * size**3
    tflops: dict[str, float] = {}
    left, right = (torch.randn(size, size, device=device) for _ in range(2))
    for name, dtype in DTYPES.items():
        if name == "f16" and not on_gpu:
            continue  # emulated on CPUs: minutes a product on some
        a, b = left.to(dtype), right.to(dtype)
        timing = time_call(lambda a=a, b=b: a @ b, device, rounds=20)  # type: ignore[misc]
        tflops[name] = round(flops / timing.low_ms / 1e9, 3)
    if has_fp8(device):
        one = torch.ones((), device=device)
        a8, b8 = left.to(FP8), right.to(FP8).t()
        timing = time_call(
            lambda: torch._scaled_mm(
                a8, b8, one, one, out_dtype=torch.bfloat16, use_fast_accum=True
            ),
            device,
            rounds=20,
        )
        tflops["fp8"] = round(flops / timing.low_ms / 1e9, 3)
    count = (CUDA_COPY_BYTES if on_gpu else CPU_COPY_BYTES) // 4
    source = torch.randn(count, device=device)
    target = torch.empty_like(source)
    copied = time_call(lambda: target.copy_(source), device, rounds=20)
    return Ceilings(tflops, size, round(8 * count / copied.low_ms / 1e6, 1))


def count_flops(call: Callable[[], object]) -> int:
    """Floating-point operations (2 x multiply-add) of the matrix work in a call.

    Convolutions, linear layers and attention; on the meta device it costs nothing.
    """
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        call()
    return int(counter.get_total_flops())


def process_memory_mb() -> float:
    """Memory of this process that is resident."""
    return _status_kb("VmRSS") * 1.024e-3


def memory_mb(device: torch.device) -> float:
    """Memory in use: allocated on a GPU, resident in this process otherwise."""
    if device.type == "cuda":
        return float(torch.cuda.memory_allocated(device)) / 1e6
    return process_memory_mb()


def memory_readers(device: torch.device) -> dict[str, Callable[[], float]]:
    """Name of each memory that a run on the device uses -> its MB in use now."""
    readers: dict[str, Callable[[], float]] = {"process": process_memory_mb}
    if device.type == "cuda":
        readers["device"] = lambda: memory_mb(device)
    return readers


def reset_peak(device: torch.device) -> None:
    """Begins a new peak of memory, where the device can."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)


def peak_memory_mb(device: torch.device) -> float:
    """The highest memory since `reset_peak`; of a CPU, of the process's life."""
    if device.type == "cuda":
        return float(torch.cuda.max_memory_allocated(device)) / 1e6
    return _status_kb("VmHWM") * 1.024e-3


def _status_kb(key: str) -> float:
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith(key + ":"):
            return float(line.split()[1])
    return float("nan")


def pick_device(name: str) -> torch.device:
    """The device of a `--device` flag; "auto" is CUDA where there is one."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(name)


def device_name(device: torch.device) -> str:
    """The device as a person names it."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"


def exact_f32() -> None:
    """f32 means f32 from here on: no tf32 in products or convolutions."""
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False


def describe_device(device: torch.device) -> dict[str, object]:
    """The device in words and numbers."""
    if device.type == "cuda":
        facts = torch.cuda.get_device_properties(device)
        return {
            "name": facts.name,
            "capability": list(torch.cuda.get_device_capability(device)),
            "memory_mb": round(facts.total_memory / 1e6),
            "multiprocessors": facts.multi_processor_count,
            "cuda": torch.version.cuda,
            "cudnn": torch.backends.cudnn.version(),  # type: ignore[no-untyped-call]
        }
    return {
        "name": cpu_name(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "load_average": round(os.getloadavg()[0], 2),
    }


def versions() -> dict[str, str]:
    """Versions of what computes on a GPU."""
    found: dict[str, str] = {}
    for name in _PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


class Figures:
    """One run's figures: on disk after every addition, so that a run cut short leaves them.

    Attributes:
        data: what the JSON file holds.
    """

    def __init__(
        self, folder: Path, name: str, about: Circumstances, device: torch.device, **more: object
    ) -> None:
        """Opens `folder/name.json`.

        Args:
            more: what the run is of: model, precision, batches.
        """
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / f"{name}.json"
        self.data: dict[str, Any] = {
            **about.to_dict(),
            "versions": {**about.versions, **versions()},
            "device_facts": describe_device(device),
            **more,
        }
        self._began = time.perf_counter()

    def put(self, **figures: object) -> None:
        """Adds or replaces figures and writes the file."""
        self.data.update(figures)
        self.data["seconds"] = round(time.perf_counter() - self._began, 1)
        draft = self.path.with_suffix(".json.part")
        draft.write_text(json.dumps(self.data, indent=1) + "\n", encoding="utf-8")
        draft.replace(self.path)


class Deadline:
    """The time that a run may take.

    Attributes:
        skipped: what there was no time for.
    """

    def __init__(self, minutes: float) -> None:
        self._end = time.perf_counter() + 60.0 * minutes
        self.skipped: list[str] = []

    def left_s(self) -> float:
        """Seconds to the deadline; negative after it."""
        return self._end - time.perf_counter()

    def allows(self, what: str, seconds: float = 0.0) -> bool:
        """Whether `what`, which takes about `seconds`, still fits; if not it is noted."""
        if self.left_s() >= seconds:
            return True
        self.skipped.append(what)
        return False


def table(rows: Sequence[Mapping[str, object]]) -> str:
    """The rows as aligned text, the keys of the first as its head; absent values as "-"."""
    if not rows:
        return "(nothing)\n"
    head = list(rows[0])
    lines = [head] + [[_cell(row.get(key)) for key in head] for row in rows]
    widths = [max(len(line[index]) for line in lines) for index in range(len(head))]
    return "".join(
        "  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True)) + "\n"
        for line in lines
    )


def _cell(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.4g}" if abs(value) < 1000 else f"{value:.0f}"
    return str(value)
