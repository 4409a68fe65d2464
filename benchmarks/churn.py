"""Calls that come and go: what a server holds on to afterwards.

    python -m benchmarks.churn --calls 1000 --at-once 2 --json churn.json

Each call connects over UDP, waits for its first pictures and ends in one of three ways in turn:
hung up by HTTP, closed by the client, or resumed over another connection first. Memory and
descriptors of the gateway and its engine are read in the pauses when no call is there.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from benchmarks.caller import SOUND_HZ, recorded_call
from benchmarks.latency import Processes, start_server
from benchmarks.report import here
from server.client.capture import Microphone
from server.webrtc import aiortc_overrides

SAMPLES = 10  # of memory over the run
SETTLED_SHARE = 0.3  # of the run, until allocators hold what they need
PICTURES = 3


async def one_call(address: str, client: httpx.AsyncClient, number: int, avatar: str) -> None:
    """A call from its offer to its end."""
    microphone = Microphone(np.zeros(SOUND_HZ, np.int16))
    async with recorded_call(address, avatar=avatar, sound=microphone, http=client) as caller:
        await caller.until(lambda got: len(got.video) >= PICTURES, 60)
        match number % 3:
            case 0:
                await client.delete(caller.call.location)
            case 1:
                await caller.call.close()
            case _:
                await caller.call.resume()
                shown = len(caller.received.video)
                await caller.until(lambda got: len(got.video) >= shown + PICTURES, 60)


async def _until_free(client: httpx.AsyncClient) -> None:
    async with asyncio.timeout(60):
        while (await client.get("/v1/status")).json()["sessions"]["active"]:
            await asyncio.sleep(0.05)


def _descriptors(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


async def measure(options: argparse.Namespace) -> dict[str, Any]:
    """What the server held in the pauses, and how much more for every thousand calls."""
    aiortc_overrides.apply()
    arguments = ["--backend", options.backend, "--no-calibration", "--log-level", "error"]
    arguments += ["--max-sessions", str(options.at_once)]
    server, address, _ = await start_server(arguments, stock=False)
    samples: list[dict[str, Any]] = []
    began = time.monotonic()
    try:
        async with httpx.AsyncClient(base_url=address, timeout=60) as client:
            processes, done = Processes(server.pid), 0
            for _ in range(SAMPLES):
                for _ in range(max(options.calls // SAMPLES // options.at_once, 1)):
                    numbers = range(done, done + options.at_once)
                    await asyncio.gather(
                        *(one_call(address, client, n, options.avatar) for n in numbers)
                    )
                    await _until_free(client)
                    done += options.at_once
                rss = processes.rss_mb()
                samples.append({"calls": done, "descriptors": _descriptors(server.pid), **rss})
                sys.stderr.write(f"{samples[-1]}\n")
    finally:
        server.terminate()
        await server.wait()
    return {
        "backend": options.backend,
        "calls": done,
        "seconds": round(time.monotonic() - began, 1),
        "samples": samples,
        "mb_per_1000_calls": {
            name: _growth_per_1000(samples, name) for name in ("gateway", "engine")
        },
    }


def _growth_per_1000(samples: list[dict[str, Any]], name: str) -> float:
    """Slope of a straight line through the settled samples."""
    settled = samples[int(len(samples) * SETTLED_SHARE) :]
    calls = [sample["calls"] for sample in settled]
    slope = np.polyfit(calls, [sample[name] for sample in settled], 1)[0]
    return round(1000 * float(slope), 1)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the benchmark; the exit status."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    parser = argparse.ArgumentParser(prog="python -m benchmarks.churn", description=__doc__)
    parser.add_argument("--calls", type=int, default=1000)
    parser.add_argument("--at-once", type=int, default=2)
    parser.add_argument("--avatar", default="anna")
    parser.add_argument("--backend", default="passthrough")
    parser.add_argument("--json", type=Path, help="write the figures to a file")
    options = parser.parse_args(given)
    circumstances = asdict(here("python -m benchmarks.churn", given))
    figures = asyncio.run(measure(options))
    circumstances["load_average"] = round(os.getloadavg()[1], 1)
    text = json.dumps({"circumstances": circumstances, **figures}, indent=2)
    if options.json is not None:
        options.json.write_text(text + "\n", encoding="utf-8")
    sys.stdout.write(text + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
