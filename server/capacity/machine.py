"""How many calls a machine holds, from what one hop and one call were measured to cost. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from engine.media import FRAME_SAMPLES, SAMPLE_RATE_HZ

FRAME_MS = 1000 * FRAME_SAMPLES / SAMPLE_RATE_HZ
# What is left is for hops that fall due together, cameras (whose faces must be followed) and
# everything else that the machine does.
ENGINE_SHARE = 0.85  # of the engine's one loop
GATEWAY_SHARE = 0.75  # of one core: beyond it a gateway fails by a cliff
CORES_SHARE = 0.9  # of all cores, for both kinds of process


@dataclass(frozen=True, slots=True)
class HopCost:
    """What the hops of a batch took together, pasting included.

    Attributes:
        batch: hops of different calls in one step of the engine.
        wall_ms: until all were done.
        cpu_ms: processor time of it; little where a GPU computes.
    """

    batch: int
    wall_ms: float
    cpu_ms: float


@dataclass(frozen=True, slots=True)
class Capacity:
    """Calls at 25 fps that each part would hold by itself.

    Attributes:
        engine, gateways, cores: infinite where the part was not measured.
    """

    engine: float
    gateways: float
    cores: float

    @property
    def sessions(self) -> int:
        """Calls that all parts hold, at least one."""
        least = min(self.engine, self.gateways, self.cores)
        if math.isinf(least):
            raise ValueError("expected one part at least to be measured")
        return max(math.floor(least), 1)

    def explain(self) -> str:
        """The sum, for people."""
        parts = {"engine": self.engine, "gateways": self.gateways, "cores": self.cores}
        shown = ", ".join(f"{name} {value:.1f}" for name, value in parts.items() if value < 1000)
        calls = "one call" if self.sessions == 1 else f"{self.sessions} calls"
        return f"this machine holds {calls} at 25 fps: {shown}"

    def describe(self) -> dict[str, float | None]:
        """The parts, for programs; None where one was not measured."""
        parts = {"engine": self.engine, "gateways": self.gateways, "cores": self.cores}
        return {
            name: round(value, 2) if math.isfinite(value) else None for name, value in parts.items()
        }


def measured_capacity(
    hops: Sequence[HopCost], hop_frames: int, call_ms: float, gateways: int, cores: int
) -> Capacity:
    """What a machine holds.

    Args:
        hops: at one batch size or more; empty where the engine computes nothing.
        call_ms: processor time that one call costs its gateway in a second.
        gateways: processes that share the calls.
        cores: of the machine that may be used.
    """
    hop_ms = hop_frames * FRAME_MS
    engine = _hops_within(hops, ENGINE_SHARE * hop_ms)
    per_gateway = GATEWAY_SHARE * 1000 / call_ms
    if gateways > 1:  # a call is in one of them
        per_gateway = max(math.floor(per_gateway), 1)
    engine_cpu_ms = min((cost.cpu_ms / cost.batch for cost in hops), default=0.0) * 1000 / hop_ms
    spread = CORES_SHARE * cores * 1000 / (call_ms + engine_cpu_ms)
    return Capacity(engine, gateways * per_gateway, spread)


def _hops_within(hops: Sequence[HopCost], limit_ms: float) -> float:
    """Hops that are done within a time: between the measured batches and beyond in proportion."""
    if not hops:
        return math.inf
    ordered = sorted(hops, key=lambda cost: cost.batch)
    batches = [0, *(cost.batch for cost in ordered)]
    walls_ms = np.maximum.accumulate([0.0, *(cost.wall_ms for cost in ordered)])
    if limit_ms < walls_ms[-1]:
        return float(np.interp(limit_ms, walls_ms, batches))
    return float(batches[-1] * limit_ms / walls_ms[-1])
