"""Whether a gateway holds on to its calls: its heap when idle after N of them, and after more.

    python -m benchmarks.heap_growth --calls 40 --rounds 10 --json heap_growth.json

Short calls of six kinds and wrong input, as in `benchmarks.soak`, as fast as they go. After each
round everything is let end, garbage is collected, and the gateway says what it still holds: objects
by type, bytes by the line of Python that allocated them, and the C allocator's own books. What
grows with the number of calls is a leak; what was there after the first round and stays is not.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from benchmarks.latency import clip_pictures, speech_with_clicks
from benchmarks.report import here
from benchmarks.server_watch import ProcessReading, WatchedServer, watched_server
from benchmarks.soak_calls import Callers, Material
from server.config import BUNDLED_AVATARS
from server.webrtc import aiortc_overrides

PLACES = 6
SPEECH_S = 10.0
TROUBLE_PAUSE_S = 0.3
TOLD = 15  # types and lines that grew most
IDLE_TIMEOUT_S = 60.0


async def _round(callers: Callers, calls: int) -> None:
    """Makes so many more short calls."""

    def made() -> int:
        counts = callers.doings.counts
        return sum(n for name, n in counts.items() if name.startswith("short"))

    wanted = made() + calls
    work = [
        asyncio.create_task(callers.make_short_calls(0.0)),
        asyncio.create_task(callers.make_short_calls(0.0)),
        asyncio.create_task(callers.make_trouble(TROUBLE_PAUSE_S)),
    ]
    while made() < wanted:
        await asyncio.sleep(0.1)
        for task in work:
            if task.done():
                task.result()
    for task in work:
        task.cancel()
    await asyncio.gather(*work, return_exceptions=True)


async def _idle_reading(server: WatchedServer, client: httpx.AsyncClient) -> dict[str, Any]:
    """What the gateway holds when no call is there any more."""
    async with asyncio.timeout(IDLE_TIMEOUT_S):
        while (await client.get("/v1/status")).json()["sessions"]["active"]:
            await asyncio.sleep(0.2)
    await asyncio.sleep(1.0)  # connections of HTTP and sockets close
    return await server.held(by_type=True) | {"process": asdict(ProcessReading.of(server.pid))}


def growth(
    readings: Sequence[dict[str, Any]], calls: Sequence[int], name: str
) -> dict[str, dict[str, Any]]:
    """By how much a table's entries grew for each thousand calls, those that grew most.

    Of the straight line through all readings but the first, which is of a server that has just
    imported and cached what its first calls needed.

    Args:
        name: of the table in each reading.
    """
    found: dict[str, float] = {}
    for key in {key for reading in readings[1:] for key in reading[name]}:
        values = [reading[name].get(key, 0) for reading in readings[1:]]
        found[key] = round(float(np.polyfit(calls[1:], values, 1)[0]) * 1000, 1)
    most = sorted(found, key=found.__getitem__, reverse=True)[:TOLD]
    return {
        key: {
            "per_1000": found[key],
            "readings": [reading[name].get(key, 0) for reading in readings],
        }
        for key in most
        if found[key] > 0
    }


async def measure(options: argparse.Namespace) -> dict[str, Any]:
    """What is held after each round, and what grew."""
    aiortc_overrides.apply()
    os.environ["PYTHONTRACEMALLOC"] = "1"
    arguments = ["--backend", options.backend, "--no-calibration", "--log-level", "error"]
    arguments += ["--max-sessions", str(PLACES)]
    os.environ |= {"LIPWIRE_CLIENT_OFFERS_PER_MINUTE": "0"}
    pictures = clip_pictures(BUNDLED_AVATARS / options.avatar / "clip.mp4")[:2]
    material = Material(speech_with_clicks(SPEECH_S, None)[0], pictures, [])
    readings: list[dict[str, Any]] = []
    calls: list[int] = []
    with tempfile.TemporaryDirectory() as folder:
        async with (
            watched_server(arguments, Path(folder)) as server,
            httpx.AsyncClient(base_url=server.address, timeout=60) as client,
        ):
            callers = Callers(server.address, client, options.avatar, material, seed=0)
            for _ in range(options.rounds):
                await _round(callers, options.calls)
                readings.append(await _idle_reading(server, client))
                calls.append(
                    sum(n for k, n in callers.doings.counts.items() if k.startswith("short"))
                )
                told = {k: readings[-1][k] for k in ("objects", "tasks", "allocator")}
                sys.stderr.write(f"{calls[-1]} calls: {told}\n")
            complaints = server.kinds_of_complaints()
    lines = [sum(reading["lines"].values()) for reading in readings]
    used = [(reading["allocator"] or {}).get("used", float("nan")) for reading in readings]
    return {
        "done": dict(sorted(callers.doings.counts.items())),
        "failed": dict(callers.doings.failures.most_common()),
        "log": dict(complaints.most_common(TOLD)),
        "calls": calls,
        "objects": [reading["objects"] for reading in readings],
        "python_kb": [round(size / 1000) for size in lines],
        "allocator_used_mb": used,
        "anonymous_mb": [reading["process"]["anonymous_mb"] for reading in readings],
        "per_1000_calls": {
            "objects": _slope(calls, [reading["objects"] for reading in readings]),
            "python_kb": _slope(calls, [size / 1000 for size in lines]),
            "allocator_used_mb": _slope(calls, used),
        },
        "types_that_grew_per_1000_calls": growth(readings, calls, "types"),
        "bytes_that_grew_per_1000_calls": growth(readings, calls, "lines"),
    }


def _slope(calls: Sequence[int], values: Sequence[float]) -> float:
    """Of the straight line through all but the first, for a thousand calls."""
    return round(1000 * float(np.polyfit(calls[1:], values[1:], 1)[0]), 2)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the benchmark; the exit status."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    parser = argparse.ArgumentParser(prog="python -m benchmarks.heap_growth", description=__doc__)
    parser.add_argument("--calls", type=int, default=40, help="of a round (40)")
    parser.add_argument("--rounds", type=int, default=10, help="three or more (10)")
    parser.add_argument("--avatar", default="anna", help="a bundled one")
    parser.add_argument("--backend", default="passthrough")
    parser.add_argument("--json", type=Path, help="write the figures to a file")
    options = parser.parse_args(given)
    if options.rounds < 3:
        parser.error("expected three rounds or more: a line needs two after the first")
    circumstances = asdict(here("python -m benchmarks.heap_growth", given))
    figures = asyncio.run(measure(options))
    circumstances["load_average"] = round(os.getloadavg()[1], 1)
    text = json.dumps({"circumstances": circumstances, **figures}, indent=2)
    if options.json is not None:
        options.json.write_text(text + "\n", encoding="utf-8")
    sys.stdout.write(text + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
