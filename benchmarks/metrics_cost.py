"""What it costs the gateways to be scraped: processor time with and without, in one run.

    python -m benchmarks.metrics_cost --gateways 2 --json out.json

Calls run throughout. Phases without and with a scrape a second take turns, so that other work on
the machine falls on both. Then, without calls, the page that they have filled is read many times
over: its price by itself, and the figure to go by on a machine that is busy otherwise
(`--rounds 0` is that alone).
"""

from __future__ import annotations

import argparse
import asyncio
import importlib.metadata
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import httpx
from prometheus_client.parser import text_string_to_metric_families

from benchmarks.check_call import babble
from benchmarks.latency import start_server
from benchmarks.report import cpu_name
from server.client.webrtc_call import WebRtcCall, open_call

SETTLE_S = 5.0
SPEECH_S = 10.0  # said again and again


async def measure(options: argparse.Namespace) -> dict[str, Any]:
    """The figures of one run."""
    arguments = ["--backend", options.backend, "--gateways", str(options.gateways)]
    arguments += ["--max-sessions", str(options.calls), "--no-calibration"]
    server, address, _ = await start_server([*arguments, "--log-level", "warning"], stock=False)
    load = os.getloadavg()[0]
    try:
        async with httpx.AsyncClient(base_url=address, timeout=30) as client:
            without: list[float] = []
            scraped: list[float] = []
            if options.rounds:
                without, scraped = await _phases(client, address, options)
            began_s = await _cpu_s(client)
            for _ in range(options.scrapes):
                page = (await client.get("/metrics")).raise_for_status()
            a_scrape_s = (await _cpu_s(client) - began_s) / (options.scrapes + 1)
    finally:
        server.terminate()
        await server.wait()
    return {
        "command": " ".join(["python -m benchmarks.metrics_cost", *options.given]),
        "versions": {
            name: importlib.metadata.version(name) for name in ("aiortc", "prometheus-client")
        },
        "machine": {
            "cpu": cpu_name(),
            "cores": os.cpu_count(),
            "python": platform.python_version(),
            "load_before": round(load, 1),
        },
        "gateways": options.gateways,
        "calls": options.calls,
        "page_bytes": len(page.content),
        "scrape_cpu_ms": round(1000 * a_scrape_s, 2),
        "gateways_cpu_share": {
            "without": [round(share, 4) for share in without],
            "scraped_each_second": [round(share, 4) for share in scraped],
        },
        "ratio": round(statistics.median(scraped) / statistics.median(without), 3)
        if options.rounds
        else None,
    }


async def _phases(
    client: httpx.AsyncClient, address: str, options: argparse.Namespace
) -> tuple[list[float], list[float]]:
    """Processor time of all gateways, of one core: without scrapes, and with one a second."""
    without, scraped = [], []
    async with AsyncExitStack() as stack:
        tasks = await stack.enter_async_context(asyncio.TaskGroup())
        talking = []
        for _ in range(options.calls):
            call = await stack.enter_async_context(open_call(address, avatar=options.avatar))
            talking += [tasks.create_task(_talk(call)), tasks.create_task(_listen(call))]
        await asyncio.sleep(SETTLE_S)
        for _ in range(options.rounds):
            without.append(await _share(client, options.seconds, scrape=False))
            scraped.append(await _share(client, options.seconds, scrape=True))
        for task in talking:
            task.cancel()
    return without, scraped


async def _share(client: httpx.AsyncClient, seconds: float, *, scrape: bool) -> float:
    before_s, began = await _cpu_s(client), time.monotonic()
    for second in range(round(seconds)):
        if scrape:
            (await client.get("/metrics")).raise_for_status()
        await asyncio.sleep(max(began + second + 1 - time.monotonic(), 0))
    return (await _cpu_s(client) - before_s) / (time.monotonic() - began)


async def _cpu_s(client: httpx.AsyncClient) -> float:
    """Processor seconds of all gateways so far, by their own page."""
    text = (await client.get("/metrics")).raise_for_status().text
    return sum(
        sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == "process_cpu_seconds_total"
    )


async def _talk(call: WebRtcCall) -> None:
    speech = babble(SPEECH_S)
    while True:
        await call.say(speech)


async def _listen(call: WebRtcCall) -> None:
    async for _ in call:
        pass


def main(argv: Sequence[str] | None = None) -> int:
    """Measures and prints; the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--gateways", type=int, default=1)
    parser.add_argument("--calls", type=int, default=4)
    parser.add_argument("--backend", default="passthrough", help="of the engine (passthrough)")
    parser.add_argument("--avatar", default="anna")
    parser.add_argument("--seconds", type=float, default=20.0, help="of each phase")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--scrapes", type=int, default=100, help="without calls")
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args(argv)
    options.given = list(sys.argv[1:] if argv is None else argv)
    figures = json.dumps(asyncio.run(measure(options)), indent=2)
    print(figures)  # noqa: T201
    if options.json:
        options.json.write_text(figures + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
