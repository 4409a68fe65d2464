"""Clients that read slowly, not at all, or go without a word: what that costs the others.

    python -m benchmarks.slow_readers --json slow_readers.json

One call over WebRTC is watched while clients in processes of their own call beside it, over a
WebSocket and over WebRTC, and misbehave:

    slow      over WebRTC stopped (SIGSTOP) for 0.7 s of every second; over a WebSocket it takes
              no more than 200 kB a second, of some 900
    deaf      goes on sending, and reads nothing that comes
    stopped   neither reads nor sends any more
    killed    its process is gone
    closed    hangs up in good order

Told are the seconds until its place is free (a slow one keeps it), by how much the gateway's memory
grew meanwhile, what a slow one got, and what the watched call got.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import httpx

from benchmarks.call_phases import Watched, steady_noise, watch
from benchmarks.caller import FPS, recorded_call
from benchmarks.report import here
from benchmarks.server_watch import ProcessReading, WatchedServer, watched_server
from server.client.capture import Microphone
from server.config import REPOSITORY
from server.webrtc import aiortc_overrides

TRANSPORTS = ("websocket", "webrtc")
WAYS = ("slow", "deaf", "stopped", "killed", "closed")
SETTLE_S = 3.0
STOPPED_S, RUNNING_S = 0.7, 0.3  # of a slow client
FREE_TIMEOUT_S = 60.0
FREE_WITHIN_S = 15.0
DEAF_FREE_WITHIN_S = 35.0  # over WebRTC: it is there, but does not consent (RFC 7675: 30 s)
LEAST_S = 5.0  # of the watched call
LARGEST_GROWTH_MB = 24.0  # encoders are opened anew for a path that carries less
QUIET_S = 2.0  # between two clients


async def _start_client(address: str, transport: str, avatar: str) -> asyncio.subprocess.Process:
    """A client that has got its first picture."""
    client = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "benchmarks.slow_reader_client", address, transport, avatar,
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, cwd=REPOSITORY,
    )  # fmt: skip
    assert client.stdout is not None
    async with asyncio.timeout(60):
        if (await client.stdout.readline()).strip() != b"ready":
            raise RuntimeError("a client ended before its first picture; its traceback is above")
    return client


async def _tell(client: asyncio.subprocess.Process, word: str) -> None:
    assert client.stdin is not None
    client.stdin.write(word.encode() + b"\n")
    await client.stdin.drain()


async def _misbehave(client: asyncio.subprocess.Process, transport: str, way: str) -> None:
    """Begins to; of a slow client over WebRTC, never returns."""
    match way:
        case "slow" if transport == "webrtc":
            while True:
                client.send_signal(signal.SIGSTOP)
                await asyncio.sleep(STOPPED_S)
                client.send_signal(signal.SIGCONT)
                await asyncio.sleep(RUNNING_S)
        case "stopped":
            client.send_signal(signal.SIGSTOP)
        case "killed":
            client.kill()
        case _:
            await _tell(client, way)


async def run_case(
    server: WatchedServer,
    http: httpx.AsyncClient,
    bystander: Watched,
    transport: str,
    way: str,
    options: argparse.Namespace,
) -> dict[str, Any]:
    """One client beside the watched call."""
    client = await _start_client(server.address, transport, options.avatar)
    await watch([bystander], SETTLE_S)
    calls = await _calls(http)
    ended_before = await _endings(server, http)
    before = ProcessReading.of(server.pid)
    began = time.monotonic()
    misbehaving = asyncio.create_task(_misbehave(client, transport, way))
    most_mb, freed_s = before.anonymous_mb, None
    limit_s = options.slow_seconds if way == "slow" else FREE_TIMEOUT_S
    while freed_s is None and time.monotonic() - began < limit_s:
        await watch([bystander], 0.1)
        most_mb = max(most_mb, ProcessReading.of(server.pid).anonymous_mb)
        if await _calls(http) < calls:
            freed_s = round(time.monotonic() - began, 1)
    ended = time.monotonic()
    if ended < began + LEAST_S:
        _, ended = await watch([bystander], began + LEAST_S - ended)
    cpu_s = ProcessReading.of(server.pid).cpu_s - before.cpu_s
    misbehaving.cancel()
    await asyncio.gather(misbehaving, return_exceptions=True)
    got = await _what_it_got(client, ended - began) if way == "slow" and freed_s is None else None
    if client.returncode is None:
        client.kill()
    await client.wait()
    reasons = {
        reason: count - ended_before.get(reason, 0)
        for reason, count in (await _endings(server, http)).items()
        if count > ended_before.get(reason, 0)
    }
    async with asyncio.timeout(FREE_TIMEOUT_S):
        while await _calls(http) >= calls:
            await asyncio.sleep(0.1)
    await watch([bystander], QUIET_S)
    return {
        "transport": transport,
        "way": way,
        "free_after_s": freed_s,
        "ended_as": reasons,
        "most_memory_mb": round(most_mb - before.anonymous_mb, 1),
        "gateway_cpu_percent": round(100 * cpu_s / (ended - began), 1),
        "it_got": got,
        "the_other_call": asdict(bystander.phase(began, ended)),
    }


async def _what_it_got(client: asyncio.subprocess.Process, seconds: float) -> dict[str, Any]:
    """What a slow client says of its own call; it hangs up then."""
    client.send_signal(signal.SIGCONT)
    await _tell(client, "closed")
    assert client.stdout is not None
    async with asyncio.timeout(20):
        told: dict[str, Any] = json.loads(await client.stdout.readline())
    return told | {"pictures_a_second": round(told["pictures"] / (seconds + SETTLE_S), 1)}


async def _calls(http: httpx.AsyncClient) -> int:
    return int((await http.get("/v1/status")).json()["sessions"]["active"])


async def _endings(server: WatchedServer, http: httpx.AsyncClient) -> dict[str, int]:
    """Calls that have ended, by reason."""
    found = await server.metrics(http)
    ended: dict[str, int] = {}
    for name, value in found.items():
        if name.startswith("lipwire_sessions_ended_total"):
            reason = name.split('reason="')[1].split('"')[0]
            ended[reason] = ended.get(reason, 0) + round(value)
    return ended


def held(cases: Sequence[dict[str, Any]]) -> dict[str, bool]:
    """Which promises were kept."""
    others = [case["the_other_call"] for case in cases]
    return {
        "others heard everything": not any(o["lost_sound_ms"] or o["stutters"] for o in others),
        "others saw everything": all(o["fps"] > FPS - 1 for o in others),
        "memory bounded": all(case["most_memory_mb"] <= LARGEST_GROWTH_MB for case in cases),
        "freed in time": all(
            case["free_after_s"] is not None and case["free_after_s"] <= _free_within_s(case)
            for case in cases
            if case["way"] != "slow"
        ),
        "a slow one heard everything": not any(
            case["it_got"]["missing_sound_ms"] for case in cases if case["it_got"]
        ),
    }


def _free_within_s(case: dict[str, Any]) -> float:
    deaf = (case["transport"], case["way"]) == ("webrtc", "deaf")
    return DEAF_FREE_WITHIN_S if deaf else FREE_WITHIN_S


async def measure(options: argparse.Namespace) -> list[dict[str, Any]]:
    """The figures of every client."""
    aiortc_overrides.apply()
    arguments = ["--no-calibration", "--max-sessions", "3", "--log-level", "error"]
    seconds = len(options.transports) * len(options.ways) * (FREE_TIMEOUT_S + SETTLE_S + 20)
    with tempfile.TemporaryDirectory() as folder:
        async with (
            watched_server([*arguments, "--backend", options.backend], Path(folder)) as server,
            httpx.AsyncClient(base_url=server.address, timeout=60) as http,
            recorded_call(
                "", avatar=options.avatar, sound=Microphone(steady_noise(seconds)), http=http
            ) as caller,
        ):
            await caller.until(lambda got: bool(got.video), 60)
            bystander = Watched(caller)
            return [
                await run_case(server, http, bystander, transport, way, options)
                for transport in options.transports
                for way in options.ways
            ]


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the benchmark; 1 where a promise was not kept."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.slow_readers",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--transports", nargs="+", choices=TRANSPORTS, default=TRANSPORTS)
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=WAYS)
    parser.add_argument("--slow-seconds", type=float, default=20.0, help="of a slow client (20)")
    parser.add_argument("--avatar", default="anna", help="a bundled one")
    parser.add_argument("--backend", default="passthrough")
    parser.add_argument("--json", type=Path, help="write the figures to a file")
    options = parser.parse_args(given)
    circumstances = asdict(here("python -m benchmarks.slow_readers", given))
    cases = asyncio.run(measure(options))
    circumstances["load_average"] = round(os.getloadavg()[1], 1)
    kept = held(cases)
    figures = {"circumstances": circumstances, "held": kept, "cases": cases}
    text = json.dumps(figures, indent=2)
    if options.json is not None:
        options.json.write_text(text + "\n", encoding="utf-8")
    sys.stdout.write(text + "\n")
    return int(not all(kept.values()))


if __name__ == "__main__":
    sys.exit(main())
