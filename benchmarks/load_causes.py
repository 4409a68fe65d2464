"""Why a phase of calls went as it did: cores that were not to be had, a late loop, slow batches.

A call that stands still for a moment looks the same whether the machine gave its time to others or
the server wasted its own. So both are noted: what the kernel says its processes waited for a core
(Linux), and what the server's own histograms counted meanwhile.
"""

from __future__ import annotations

import asyncio
import itertools
import math
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import httpx

from benchmarks.server_watch import read_metrics

LOOK_EVERY_S = 0.1
STAGES = ("queue", "generate", "playout", "encode")
_BUCKET = re.compile(r'^lipwire_(\w+)_bucket\{le="([^"]+)"\}$')


@dataclass(frozen=True, slots=True)
class Causes:
    """What server and machine went through during a phase.

    Attributes:
        waited_percent: of the time, in which a process could have run and had no core: "gateway",
            "engine" and "peers", this process. None where the kernel does not say.
        longest_wait_ms: the most that one of them waited within a tenth of a second.
        stage_ms: means of the server's stages.
        loop_lag_ms: bound that the gateway's latest timer did not exceed; None beyond all bounds.
        hop_frames: hops by the bound of their length.
    """

    waited_percent: dict[str, float] | None
    longest_wait_ms: dict[str, float] | None
    stage_ms: dict[str, float]
    loop_lag_ms: float | None
    hop_frames: dict[str, int]


class CauseWatch:
    """Watches a server and this process, phase by phase.

    Args:
        pid: of the gateway, whose child is the engine.
    """

    def __init__(self, client: httpx.AsyncClient, address: str, pid: int) -> None:
        self._client = client
        self._address = address
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        spawned = [c for c in children if b"spawn_main" in Path(f"/proc/{c}/cmdline").read_bytes()]
        self._pids = {"gateway": pid, "peers": os.getpid()}
        if len(spawned) == 1:  # several are gateways of a supervisor, and the engine
            self._pids["engine"] = int(spawned[0])

    async def watch(self, seconds: float) -> Causes:
        """What happens from now on for so long."""
        before = await read_metrics(self._client, self._address)
        loop = asyncio.get_running_loop()
        began, waits = loop.time(), [self._waited_ms()]
        while loop.time() < began + seconds:
            await asyncio.sleep(LOOK_EVERY_S)
            waits.append(self._waited_ms())
        elapsed_ms = 1000 * (loop.time() - began)
        after = await read_metrics(self._client, self._address)
        percent, longest = waiting(waits, elapsed_ms)
        return Causes(percent, longest, *counted(before, after))

    def _waited_ms(self) -> dict[str, float] | None:
        """How long the main thread of each process has waited for a core since it began."""
        try:
            return {
                name: int(Path(f"/proc/{pid}/schedstat").read_text().split()[1]) / 1e6
                for name, pid in self._pids.items()
            }
        except (OSError, IndexError):
            return None


def waiting(
    waits: Sequence[Mapping[str, float] | None], elapsed_ms: float
) -> tuple[dict[str, float] | None, dict[str, float] | None]:
    """Share of the time that was waited in percent, and the longest wait between two looks.

    Args:
        waits: ms waited so far by process, at every look.
    """
    known = [look for look in waits if look is not None]
    if len(known) < 2:
        return None, None
    percent, longest = {}, {}
    for name in known[0]:
        looks = [look[name] for look in known]
        percent[name] = round(100 * (looks[-1] - looks[0]) / elapsed_ms, 1)
        steps = (later - sooner for sooner, later in itertools.pairwise(looks))
        longest[name] = round(max(steps), 1)
    return percent, longest


def counted(
    before: Mapping[str, float], after: Mapping[str, float]
) -> tuple[dict[str, float], float | None, dict[str, int]]:
    """Means of stages in ms, the bound of the latest timer in ms, and hops by length.

    Args:
        before, after: samples of `/metrics` by name and labels.
    """

    def grown(name: str) -> float:
        return after.get(name, 0.0) - before.get(name, 0.0)

    stage_ms = {}
    for stage in STAGES:
        labels = f'{{stage="{stage}"}}'
        count = grown(f"lipwire_stage_seconds_count{labels}")
        if count:
            total = grown(f"lipwire_stage_seconds_sum{labels}")
            stage_ms[stage] = round(1000 * total / count, 1)
    lags = _by_bound("loop_lag_seconds", before, after)
    lag_ms = max((1000 * float(bound) for bound, count in lags.items() if count), default=0.0)
    hops = {f"{float(bound):g}": n for bound, n in _by_bound("hop_frames", before, after).items()}
    kept = {bound: count for bound, count in hops.items() if count}
    return stage_ms, lag_ms if math.isfinite(lag_ms) else None, kept


def _by_bound(name: str, before: Mapping[str, float], after: Mapping[str, float]) -> dict[str, int]:
    """How many observations fell into each bucket of a histogram, by its upper bound."""
    found: dict[str, int] = {}
    below = 0.0
    buckets = [
        (match[2], key) for key in after if (match := _BUCKET.match(key)) and match[1] == name
    ]
    for bound, key in sorted(buckets, key=lambda bucket: float(bucket[0])):
        total = after[key] - before.get(key, 0.0)
        found[bound] = round(total - below)
        below = total
    return found
