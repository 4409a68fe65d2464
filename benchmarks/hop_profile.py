"""Where the time of a hop goes, by kind of operation, from torch's profiler."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch.profiler import ProfilerActivity, profile

# Operators by kind, in order: the first that is part of the operator's name.
_KINDS = (
    ("attention", ("scaled_dot_product", "_attention_")),
    ("convolution", ("convolution", "slow_conv", "thnn_conv")),
    ("linear", ("::mm", "::addmm", "::bmm", "::baddbmm", "::linear", "mkldnn_linear", "scaled_mm")),
    ("norms", ("norm", "var_mean")),
    ("copies", ("copy", "::cat", "::index", "::gather", "::clone", "::contiguous", "::stack")),
    ("upsampling", ("upsample", "pixel_shuffle")),
)


@dataclass(frozen=True, slots=True)
class OperatorTime:
    """What one operator took in a hop, without what it called.

    Attributes:
        calls: a hop.
    """

    name: str
    kind: str
    calls: float
    ms: float


def kind_of_operator(name: str) -> str:
    """The kind of an operator by its name; what is none of them works element by element."""
    for kind, parts in _KINDS:
        if any(part in name for part in parts):
            return kind
    return "elementwise and other"


def profile_hop(
    call: Callable[[], object], device: torch.device, rounds: int = 3
) -> list[OperatorTime]:
    """The operators of `call`, which was warmed up, the longest first: device time on CUDA."""
    on_gpu = device.type == "cuda"
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if on_gpu else [])]
    with profile(activities=activities) as profiler:
        for _ in range(rounds):
            call()
    found = []
    for event in profiler.key_averages():
        spent_us = event.self_device_time_total if on_gpu else event.self_cpu_time_total
        # On CUDA the kernels themselves are listed beside the operators that launched them.
        if spent_us > 0 and event.key.startswith("aten::"):
            found.append(
                OperatorTime(
                    event.key,
                    kind_of_operator(event.key),
                    event.count / rounds,
                    round(spent_us / 1e3 / rounds, 4),
                )
            )
    return sorted(found, key=lambda item: -item.ms)


def by_kind(operators: list[OperatorTime]) -> dict[str, float]:
    """Milliseconds of a hop by kind, the longest first."""
    sums: dict[str, float] = {}
    for item in operators:
        sums[item.kind] = sums.get(item.kind, 0.0) + item.ms
    return {kind: round(sums[kind], 4) for kind in sorted(sums, key=lambda k: -sums[k])}
