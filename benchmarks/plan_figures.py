"""What TensorRT plans take on a GPU: to build, to load, how exact they are, and their hops.

    measure_plans("tensorrt", "f16", setting, Device(), note)

The plans come from the plan cache and run in the real backend. What a runtime refuses is an
exception with its words.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.hop_figures import Note, Setting, hop_rows, probe_crops
from engine.backends.tensorrt_backend import TensorRtBackend, plan_precision
from engine.backends.tensorrt_plans import Builder, ServedPlans, TensorRtPlans
from engine.media import F32
from engine.plan_runtime.captured import CapturedWork
from engine.plan_runtime.cuda_driver import CudaDriver
from engine.plan_runtime.cuda_runtime import CudaRuntime
from engine.plan_runtime.hop_way import plans_of, rows_of
from engine.plan_runtime.memory import Allocations
from engine.plan_runtime.plan_engine import ApiName, PlanEngine, load_api
from engine.plan_runtime.run_once import run_once
from engine.plans.cache import PlanCache
from engine.plans.events import PlanEvent
from engine.plans.folder import verified_golden
from engine.spec import ModelSpec

NETWORKS = ("unet", "codec_decoder", "codec_encoder", "audio_encoder")
CACHE_BYTES = 64 << 30  # a U-Net of the published size has gigabytes for every precision


@dataclass(frozen=True, slots=True)
class Device:
    """What plans run on and what builds them."""

    cuda: Callable[[], CudaRuntime] = CudaDriver
    api: Callable[[ApiName], Any] = load_api
    build: Builder | None = None


class PlanClock:
    """When the plan cache did what, told by the cache itself."""

    def __init__(self) -> None:
        self._last = time.perf_counter()
        self.seconds: dict[tuple[str, str], float] = {}

    def __call__(self, event: PlanEvent) -> None:
        """Books the time since the event before on this one."""
        now = time.perf_counter()
        self.seconds[event.kind, event.component] = round(now - self._last, 3)
        self._last = now

    def start(self) -> None:
        """Begins to count."""
        self._last = time.perf_counter()


def measure_plans(
    api_name: ApiName, precision: str, setting: Setting, device: Device, note: Note
) -> None:
    """Builds or loads, checks and times the plans of one package in one precision.

    Args:
        note: told `plans`, `hops`, `networks` and the rest as soon as they are there.

    Raises:
        BackendError: there are no such plans, or the runtime refuses them, with its words.
    """
    chosen = plan_precision(precision)
    api = device.api(api_name)
    cuda = device.cuda()
    note(version=str(getattr(api, "__version__", "?")), gpu=cuda.device.name)
    before = cuda.free_bytes()
    clock = PlanClock()
    cache = PlanCache(setting.plans, CACHE_BYTES, watcher=clock)
    spec = setting.spec
    served = ServedPlans(api_name, setting.model, spec, spec.hop_frames, setting.batches, chosen)

    def opened() -> tuple[TensorRtPlans, dict[str, PlanEngine]]:
        clock.start()
        holder = TensorRtPlans(cache, cuda, api, device.build)
        return holder, holder.open(served)

    began = time.perf_counter()
    opened()  # builds what is not kept; nothing of it stays on the device
    note(first_open_s=round(time.perf_counter() - began, 2), plans=_plan_rows(spec, clock, cache))
    began = time.perf_counter()
    holder, plans = opened()
    note(open_s=round(time.perf_counter() - began, 2))
    errors = _golden_errors(plans, holder, served, cache, cuda)
    note(
        plans=[
            {**row, **errors.get(str(row["plan"]), {})} for row in _plan_rows(spec, clock, cache)
        ]
    )
    began = time.perf_counter()
    backend = TensorRtBackend(
        spec,
        cuda,
        lambda _hop: plans,
        name=api_name.replace("_", "-"),
        precision=chosen,
        buckets=setting.batches,
    )
    backend.warm_up(spec.hop_frames)
    note(warm_up_s=round(time.perf_counter() - began, 2), captured=backend.is_captured)
    note(probe=probe_crops(backend))
    peak = before - cuda.free_bytes()
    for rows in hop_rows(backend, setting.batches, setting.rounds, setting.limit_s):
        peak = max(peak, before - cuda.free_bytes())
        note(hops=rows, peak_mb=round(peak / 1e6, 1))
    note(networks=_network_rows(plans, cuda, setting))
    backend.close()


def _plan_rows(spec: ModelSpec, clock: PlanClock, cache: PlanCache) -> list[dict[str, object]]:
    sizes = {str(info.key["component"]): info.size_bytes for info in cache.plans() if info.in_use}
    return [
        {
            "plan": name,
            "mb": round(sizes[name] / 1e6, 2) if name in sizes else None,
            "build_s": clock.seconds.get(("built", name)),
            "load_s": clock.seconds.get(("loaded", name)),
        }
        for name in plans_of(spec, spec.hop_frames)
    ]


def _golden_errors(
    plans: Mapping[str, PlanEngine],
    holder: TensorRtPlans,
    served: ServedPlans,
    cache: PlanCache,
    cuda: CudaRuntime,
) -> dict[str, dict[str, float]]:
    """How far each plan is from its golden outputs: those of onnxruntime with its graph."""
    stream = cuda.create_stream()
    found = {}
    for name, plan in plans.items():
        key = holder.key(served, name)
        folder = cache.folder / key.digest()
        if not folder.is_dir():  # it was too large to keep, or the disk is full
            continue
        golden = verified_golden(folder, key)
        made = run_once(plan, cuda, stream, golden.inputs)
        pairs = zip((made[output] for output in sorted(made)), golden.outputs, strict=True)
        worst = max(_relative(got, want) for got, want in pairs)
        found[name] = {"golden_error": worst, "tolerance": golden.tolerance}
    cuda.destroy_stream(stream)
    return found


def _relative(got: F32, want: F32) -> float:
    norm = max(float(np.linalg.norm(want)), 1e-12)
    return float(np.linalg.norm(got.astype(np.float64) - want)) / norm


def _network_rows(
    plans: Mapping[str, PlanEngine], cuda: CudaRuntime, setting: Setting
) -> list[dict[str, object]]:
    """Milliseconds of one call of each network alone, captured, on memory full of zeros."""
    rows: list[dict[str, object]] = []
    for name in NETWORKS:
        for batch in setting.batches:
            count = batch * rows_of(setting.spec, setting.spec.hop_frames, name)
            ms = _call_ms(plans[name], cuda, count, setting)
            rows.append({"network": name, "batch": batch, "ms": ms})
    return rows


def _call_ms(plan: PlanEngine, cuda: CudaRuntime, rows: int, setting: Setting) -> float:
    stream, allocations = cuda.create_stream(), Allocations(cuda)
    try:
        addresses = {}
        for tensor in plan.tensors:
            addresses[tensor.name] = allocations.device(rows * tensor.row_bytes)
            cuda.fill(addresses[tensor.name], rows * tensor.row_bytes, stream)
        size = plan.scratch_bytes(plan.rows.index(rows))
        call = plan.call(rows, (allocations.device(size), size), addresses, stream)
        work = CapturedWork(cuda, stream, plan.name, call.queue)
        began = time.perf_counter()
        done = 0
        while done == 0 or (done < setting.rounds and time.perf_counter() - began < 1.0):
            work.run()
            cuda.synchronize(stream)
            done += 1
        elapsed = time.perf_counter() - began
        work.release()
        return round(1e3 * elapsed / done, 4)
    finally:
        allocations.release()
        cuda.destroy_stream(stream)
