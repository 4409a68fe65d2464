"""What plans are held beside on the same GPU: torch's captured hops, and AOTInductor's packages."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import torch

from benchmarks.hop_figures import Note, Setting, hop_rows, probe_crops
from benchmarks.measure import device_name, time_call
from engine.backends.torch_backend import TorchBackend
from engine.denoise.model import TorchModel
from engine.errors import BackendError
from export.request import Component, ExportRequest, Precision

# The rest is small beside these two.
AOTI_NETWORKS: tuple[Component, ...] = ("unet", "decoder")


def measure_torch(
    setting: Setting, precision: str, device: torch.device, *, compiled: bool, note: Note
) -> None:
    """Times the torch backend on the same weights, captured where the device can.

    Raises:
        RuntimeError: torch's own, of a device without room or a compiler that gave up.
    """
    captured = device.type == "cuda"
    before = _free_bytes(device)
    began = time.perf_counter()
    model = TorchModel.load(setting.model, device, precision)
    note(version=torch.__version__, gpu=device_name(device), open_s=_since(began))
    backend = TorchBackend(
        model, setting.spec, buckets=setting.batches, graphs=captured, compiled=compiled
    )
    began = time.perf_counter()
    backend.warm_up(setting.spec.hop_frames)
    note(warm_up_s=_since(began), captured=captured)
    note(probe=probe_crops(backend))
    for rows in hop_rows(backend, setting.batches, setting.rounds, setting.limit_s):
        note(hops=rows)
        if captured:  # torch keeps what it has taken, so that its last figure is its peak
            note(peak_mb=round((before - _free_bytes(device)) / 1e6, 1))


def measure_aoti(setting: Setting, precision: Precision, device: torch.device, note: Note) -> None:
    """Builds AOTInductor's packages of U-Net and decoder, holds them against torch, times a call.

    Raises:
        BackendError: there is no compiler for them, or it refuses the network.
        ModelError: a package is further from torch in f32 than its precision allows.
    """
    from export.component_export import export_component
    from export.targets import load_target
    from export.torch_program import example_inputs, ready_network

    target = load_target("aoti")
    if reason := target.unavailable():
        raise BackendError(reason)
    note(version=torch.__version__, gpu=device_name(device))
    batch = setting.batches[len(setting.batches) // 2]
    plans: list[dict[str, object]] = []
    networks: list[dict[str, object]] = []
    for component in AOTI_NETWORKS:
        request = ExportRequest(
            setting.model,
            setting.spec,
            component,
            setting.spec.hop_frames,
            (batch,),
            precision,
        )
        with tempfile.TemporaryDirectory(dir=setting.plans.parent) as scratch:
            began = time.perf_counter()
            record = export_component(target, request, Path(scratch))
            built = _since(began)
            package = next(Path(scratch) / name for name in record.files if name.endswith(".pt2"))
            began = time.perf_counter()
            run = torch._inductor.aoti_load_package(str(package))
            plans.append(
                {
                    "plan": request.name,
                    "mb": round(package.stat().st_size / 1e6, 2),
                    "build_s": built,
                    "load_s": _since(began),
                    "golden_error": None if record.worst is None else record.worst.relative,
                    "tolerance": record.tolerance,
                }
            )
            inputs = example_inputs(ready_network(request, device), request, batch, device)
            timing = time_call(
                lambda run=run, inputs=inputs: run(*inputs),  # type: ignore[misc]
                device,
                rounds=setting.rounds,
                limit_s=setting.limit_s,
            )
            ms = round(timing.median_ms, 4)
            networks.append({"network": request.name, "batch": batch, "ms": ms})
        note(plans=plans, networks=networks)


def _free_bytes(device: torch.device) -> int:
    return torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else 0


def _since(began: float) -> float:
    return round(time.perf_counter() - began, 2)
