"""Calls at once: as many as the server admits, and what one more does to them.

    lipwire bench load --out report
    lipwire bench load --gateways 2 --backend passthrough --seconds 30 --kill

A server is started as its user starts it. Calls come one after the other until one is refused;
then the calls that are there are watched while nobody knocks, while somebody knocks twice a second
and is refused each time, and after that. `--kill` then kills one gateway with its calls, and says
what becomes of the others and how soon its places are free and it is back. All peers are in this
process, on the server's machine, and cost about as much as a gateway: figures are those of a
machine that carries both.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib.metadata
import json
import os
import platform
import signal
import sys
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from benchmarks.caller import RecordedCall, an_offer, recorded_call
from benchmarks.latency import Processes, speech_with_clicks, start_server
from benchmarks.load_causes import Causes, CauseWatch
from benchmarks.report import BarPlot, Report, Section, Table, cpu_name, here, write_report
from server.client.capture import Microphone
from server.client.errors import CallRefused
from server.protocol import Stats
from server.webrtc import aiortc_overrides

KNOCK_INTERVAL_S = 0.5
SETTLE_S = 5.0  # after the last call: connecting, first delay
CONNECT_S = 20.0
BACK_S = 60.0  # a gateway that is not back by then will not be
GAP_MS = 1000.0  # a call that shows nothing for so long is lost; a busy machine may drop pictures


@dataclass(frozen=True, slots=True)
class CallFigures:
    """One call during one phase.

    Attributes:
        fps: pictures that arrived.
        longest_gap_ms: between two of them.
        late_hops: hops that the engine dropped whole.
        server_latency_p95_ms: as the server says, at the end of the phase.
    """

    fps: float
    longest_gap_ms: float
    late_hops: int
    server_latency_p95_ms: float | None


class Watched:
    """A call, and what is counted of it."""

    def __init__(self, caller: RecordedCall) -> None:
        self.caller = caller

    def late_hops(self) -> int:
        stats = self._stats()
        return stats.late_hops if stats else 0

    def figures(self, began: float, ended: float, late_before: int) -> CallFigures:
        """What happened between two moments of the monotonic clock."""
        arrivals = [at for at, *_ in self.caller.received.video if began <= at <= ended]
        gaps = np.diff([began, *arrivals, ended])
        stats = self._stats()
        return CallFigures(
            fps=round(len(arrivals) / (ended - began), 2),
            longest_gap_ms=round(1000 * float(gaps.max()), 1),
            late_hops=self.late_hops() - late_before,
            server_latency_p95_ms=stats.server_latency_ms.p95 if stats else None,
        )

    def _stats(self) -> Stats | None:
        return self.caller.call.stats


async def measure(options: argparse.Namespace) -> dict[str, Any]:
    """The figures of one ramp."""
    aiortc_overrides.apply()
    arguments = ["--backend", options.backend, "--model", options.model, "--log-level", "warning"]
    arguments += ["--gateways", str(options.gateways)]
    if options.max_sessions is not None:
        arguments += ["--max-sessions", str(options.max_sessions), "--no-calibration"]
    load = os.getloadavg()[0]
    server, address, _ = await start_server(arguments, stock=False)
    calls: list[Watched] = []
    try:
        async with (
            httpx.AsyncClient(base_url=address, timeout=30) as client,
            AsyncExitStack() as stack,
        ):
            avatars = (await client.get("/v1/avatars")).json()["avatars"]
            avatar = options.avatar or avatars[0]["name"]
            query = {"mode": "avatar", "avatar": avatar}
            ramp = await _ramp(stack, client, avatar, calls, options)
            await asyncio.sleep(SETTLE_S)
            processes = Processes(server.pid)
            cpu, began = processes.cpu_s(), time.monotonic()
            causes = CauseWatch(client, address, server.pid)
            phases: dict[str, list[CallFigures]] = {}
            why: dict[str, Causes] = {}
            knocks: dict[str, Any] = {}
            for phase in ("before", "knocking", "after"):
                knocking = (
                    asyncio.create_task(_knock(client, query)) if phase == "knocking" else None
                )
                watching = _watch(calls, options.seconds), causes.watch(options.seconds)
                phases[phase], why[phase] = await asyncio.gather(*watching)
                if knocking is not None:
                    knocking.cancel()
                    knocks = await knocking
            elapsed = time.monotonic() - began
            used = {name: value - cpu[name] for name, value in processes.cpu_s().items()}
            status = (await client.get("/v1/status")).json()
            killed = None
            if options.kill:
                killed = await _kill(client, calls, server.pid, options.seconds)
    finally:
        server.terminate()
        await server.wait()
    return {
        "command": " ".join(["lipwire bench load", *options.given]),
        "versions": {name: importlib.metadata.version(name) for name in ("aiortc", "openvino")},
        "machine": {
            "cpu": cpu_name(),
            "cores": os.cpu_count(),
            "python": platform.python_version(),
            "load_before": round(load, 1),
        },
        "gateways": options.gateways,
        "calls": len(calls),
        "refused": ramp,
        "why": status["sessions"].get("why"),
        "engine": status["engine"],
        "spread": [gateway["active"] for gateway in status["sessions"].get("gateways", [])],
        "phases": {name: [asdict(call) for call in figures] for name, figures in phases.items()},
        "causes": {name: asdict(causes) for name, causes in why.items()},
        "knocks": knocks,
        "killed": killed,
        "cpu_percent_of_one_core": {
            ("supervisor" if options.gateways != 1 else "gateway"): round(
                100 * used["gateway"] / elapsed, 1
            ),
            ("gateways_and_engine" if options.gateways != 1 else "engine"): round(
                100 * used["engine"] / elapsed, 1
            ),
        },
    }


async def _ramp(
    stack: AsyncExitStack,
    client: httpx.AsyncClient,
    avatar: str,
    calls: list[Watched],
    options: argparse.Namespace,
) -> dict[str, Any] | None:
    """Calls until one is refused; what that one was told, None where `most` came first."""
    seconds = 4 * options.seconds + SETTLE_S + options.most * CONNECT_S
    samples, _ = speech_with_clicks(seconds, options.speech)
    while len(calls) < options.most:
        calling = recorded_call("", avatar=avatar, sound=Microphone(samples), http=client)
        try:
            caller = await stack.enter_async_context(calling)
        except CallRefused as error:
            return {
                "status": error.status,
                "code": error.code,
                "retry_after_s": error.retry_after_s or 0,
            }
        await caller.until(lambda got: bool(got.video), CONNECT_S)
        calls.append(Watched(caller))
    return None


async def _watch(calls: Sequence[Watched], seconds: float) -> list[CallFigures]:
    late = [call.late_hops() for call in calls]
    began = time.monotonic()
    await asyncio.sleep(seconds)
    ended = time.monotonic()
    return [call.figures(began, ended, before) for call, before in zip(calls, late, strict=True)]


async def _kill(
    client: httpx.AsyncClient, calls: Sequence[Watched], server_pid: int, seconds: float
) -> dict[str, Any]:
    """Kills one gateway that holds calls; what became of all."""
    children = Path(f"/proc/{server_pid}/task/{server_pid}/children").read_text().split()
    # Shared memory of calls is named after the process that holds them.
    holder = next(pid for pid in children if list(Path("/dev/shm").glob(f"lipwire-{pid}-*")))
    watching = asyncio.create_task(_watch(calls, seconds))
    killed_at = time.monotonic()
    os.kill(int(holder), signal.SIGKILL)
    freed_s: float | None = None
    back_s: float | None = None
    while back_s is None and time.monotonic() - killed_at < BACK_S:
        await asyncio.sleep(0.05)
        try:
            told = (await client.get("/v1/status", headers={"connection": "close"})).json()
        except httpx.TransportError:  # the connection was to the one that was killed
            continue
        sessions = told["sessions"]
        since = round(time.monotonic() - killed_at, 2)
        if freed_s is None and sessions["active"] < len(calls):
            freed_s = since
        if freed_s is not None and all(gateway["up"] for gateway in sessions["gateways"]):
            back_s = since
    figures = await watching
    return {
        "calls": [asdict(call) for call in figures],
        "calls_without_a_gap": sum(call.longest_gap_ms < GAP_MS for call in figures),
        "places_free_after_s": freed_s,
        "gateway_back_after_s": back_s,
    }


async def _knock(client: httpx.AsyncClient, query: dict[str, str]) -> dict[str, Any]:
    """Asks again and again until cancelled; how often, and what was answered."""
    offer = await an_offer()
    answers: dict[str, int] = {}
    retry_after_s: set[int] = set()
    try:
        while True:
            response = await client.post(
                "/v1/sessions",
                params=query,
                content=offer,
                headers={"content-type": "application/sdp"},
            )
            told = _refusal(response)
            key = f"{told['status']} {told['code']}"
            answers[key] = answers.get(key, 0) + 1
            retry_after_s.add(told["retry_after_s"])
            await asyncio.sleep(KNOCK_INTERVAL_S)
    except asyncio.CancelledError:
        return {"answers": answers, "retry_after_s": sorted(retry_after_s)}


def _refusal(response: httpx.Response) -> dict[str, Any]:
    """What a refusal says.

    Raises:
        RuntimeError: the call was taken.
    """
    if response.is_success:
        raise RuntimeError("expected a refusal, the server took one more call")
    return {
        "status": response.status_code,
        "code": response.json()["error"]["code"],
        "retry_after_s": int(response.headers.get("retry-after", 0)),
    }


def report_of(figures: dict[str, Any], arguments: Sequence[str]) -> Report:
    """The page of one ramp."""
    phases = figures["phases"]
    rows = [
        (
            phase, number + 1, call["fps"], call["longest_gap_ms"], call["late_hops"],
            call["server_latency_p95_ms"],
        )
        for phase, calls in phases.items()
        for number, call in enumerate(calls)
    ]  # fmt: skip
    names = [f"call {number + 1}" for number in range(figures["calls"])]
    bars = BarPlot(
        "Frames a second, by call",
        "fps",
        names,
        {phase: [call["fps"] for call in calls] for phase, calls in phases.items()},
    )
    causes = [
        (phase, *(_listed(of[name]) for name in ("waited_percent", "longest_wait_ms", "stage_ms")),
         of["loop_lag_ms"], _listed(of["hop_frames"]))
        for phase, of in figures["causes"].items()
    ]  # fmt: skip
    knocks = [(answer, count) for answer, count in figures["knocks"]["answers"].items()]
    return Report(
        "Calls at once",
        here("lipwire bench load", arguments),
        [
            Section(
                "The calls that were there",
                "Before somebody knocked, while somebody knocked twice a second, and after.",
                [
                    Table(("", "call", "fps", "longest gap ms", "late hops", "p95 ms"), rows),
                    bars,
                ],
            ),
            Section(
                "What server and machine went through",
                "A core that was not to be had is the machine's, a late timer with cores free the "
                "gateway's, a slow batch with cores free the engine's.",
                [
                    Table(
                        (
                            "",
                            "waited for a core %",
                            "longest, of 100 ms",
                            "stages ms",
                            "timer late ms",
                            "hops by frames",
                        ),
                        causes,
                    )
                ],
            ),
            Section("The one that knocked", blocks=[Table(("answer", "times"), knocks)]),
        ],
        figures["why"] or f"{figures['calls']} calls",
    )


def _listed(figures: dict[str, float] | None) -> str:
    return ", ".join(f"{name} {value}" for name, value in (figures or {}).items()) or "unknown"


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the benchmark; the exit status."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    parser = argparse.ArgumentParser(
        prog="lipwire bench load",
        description="Call a server until it refuses, and see what one more does to the others.",
        epilog="example:\n  lipwire bench load --gateways 2 --seconds 60 --out report",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--gateways", type=int, default=1)
    parser.add_argument(
        "--max-sessions", type=int, help="take that many calls, whatever the machine holds"
    )
    parser.add_argument("--most", type=int, default=16, help="calls to try at most (16)")
    parser.add_argument("--seconds", type=float, default=20.0, help="of each phase (20)")
    parser.add_argument("--kill", action="store_true", help="kill one of several gateways at last")
    parser.add_argument("--avatar", help="name of the avatar (the first)")
    parser.add_argument("--speech", type=Path, help="a sound file (syllables of noise)")
    parser.add_argument("--model", default="bundled")
    parser.add_argument("--backend", default="auto")
    parser.add_argument("--out", type=Path, help="write load.json and load.html here")
    options = parser.parse_args(given)
    if options.kill and options.gateways < 2:
        parser.error("--kill needs --gateways of 2 or more")
    options.given = given
    figures = asyncio.run(measure(options))
    if options.out is not None:
        write_report(options.out, "load", figures, report_of(figures, given))
    sys.stdout.write(json.dumps(figures, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
