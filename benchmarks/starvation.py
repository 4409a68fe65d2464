"""What calls see and hear while the server gets too little processor time, and after that.

    python -m benchmarks.starvation --json starvation.json      # as root

A server as its user starts it, with two places more than calls: an avatar's and a camera's. It is
squeezed twice, with a rest between: by a quota on its processes (`cpu.max`), and by busy loops of
its own priority on every core. This process, which measures, is squeezed by neither: it takes a
higher priority, for which it needs root. The microphones give steady noise, so that a block without
it was lost on the way in. Somebody knocks every second for one of the free places.

What is promised (`held` in the JSON, and the exit status): no sound is lost or silent, or pauses
for 150 ms; pictures go on, the source's own where hops were late; nobody is let in from
`CLOSED_AFTER_S` on; and `RECOVERED_AFTER_S` after the squeeze lips are synced at 25 pictures a
second again.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import sys
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, AsyncExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import httpx

from benchmarks.call_phases import Watched, steady_noise, watch
from benchmarks.caller import FPS, Camera, an_offer, recorded_call
from benchmarks.cpu_squeeze import neighbours, quota
from benchmarks.latency import clip_pictures, start_server
from benchmarks.report import here
from server.client.capture import Microphone
from server.config import BUNDLED_AVATARS
from server.webrtc import aiortc_overrides

FREE_PLACES = 2
SETTLE_S = 5.0
KNOCK_EVERY_S = 1.0
CLOSED_AFTER_S = 10.0
RECOVERED_AFTER_S = 5.0
PRIORITY = 10  # of this process, above the others

_DROPPED = re.compile(r'lipwire_dropped_total\{queue="(\w+)",reason="(\w+)"\} (\S+)')

Squeeze = Literal["quota", "neighbours"]


@dataclass(frozen=True, slots=True)
class Knock:
    """One try to get in: when, in seconds since the squeeze began, and what was answered."""

    at_s: float
    status: int
    code: str


async def _knock(client: httpx.AsyncClient, avatar: str, began: float, into: list[Knock]) -> None:
    """Asks for a place again and again until cancelled, and gives back what it gets."""
    offer = await an_offer()
    while True:
        at = time.monotonic()
        response = await client.post(
            "/v1/sessions",
            params={"mode": "avatar", "avatar": avatar},
            content=offer,
            headers={"content-type": "application/sdp"},
        )
        code = "taken" if response.is_success else response.json()["error"]["code"]
        into.append(Knock(round(at - began, 1), response.status_code, code))
        if response.is_success:
            await client.delete(response.headers["location"])
        await asyncio.sleep(max(at + KNOCK_EVERY_S - time.monotonic(), 0))


async def _dropped(client: httpx.AsyncClient) -> dict[str, int]:
    """What the server has dropped so far, by queue and reason."""
    text = (await client.get("/metrics")).text
    return {f"{queue}/{why}": round(float(count)) for queue, why, count in _DROPPED.findall(text)}


def _squeeze(
    which: Squeeze, server_pid: int, options: argparse.Namespace
) -> AbstractContextManager[None]:
    if which == "neighbours":
        return neighbours(options.per_core, os.getpriority(os.PRIO_PROCESS, server_pid))
    children = Path(f"/proc/{server_pid}/task/{server_pid}/children").read_text().split()
    return quota([server_pid, *map(int, children)], options.share)


async def starve(
    which: Squeeze,
    calls: Sequence[Watched],
    client: httpx.AsyncClient,
    server_pid: int,
    options: argparse.Namespace,
) -> dict[str, Any]:
    """One squeeze: what every call got before, during and after it, and who was let in."""
    spans = {"before": await watch(calls, options.seconds)}
    knocks: list[Knock] = []
    before = await _dropped(client)
    with _squeeze(which, server_pid, options):
        knocking = asyncio.create_task(_knock(client, options.avatar, time.monotonic(), knocks))
        spans["squeezed"] = await watch(calls, options.seconds)
    after = await _dropped(client)
    knocking.cancel()
    await asyncio.gather(knocking, return_exceptions=True)
    spans["after"] = await watch(calls, options.seconds)
    ended = spans["squeezed"][1]
    told = []
    for call in calls:
        phases = {name: call.phase(*span) for name, span in spans.items()}
        again_s = call.synced_again(ended, phases["before"].synced or 0.0)
        told.append({
            "mode": call.caller.call.ready.mode,
            **{name: asdict(phase) for name, phase in phases.items()},
            "synced_again_s": again_s,
        })  # fmt: skip
    let_in = [knock.at_s for knock in knocks if knock.code == "taken"]
    return {
        "squeeze": which,
        "backend": calls[0].told[-1][1].backend,
        "by": f"{options.share} of a core" if which == "quota" else f"{options.per_core} a core",
        "calls": told,
        "dropped": {queue: n - before[queue] for queue, n in after.items() if n > before[queue]},
        "knocks": len(knocks),
        "last_let_in_s": max(let_in, default=None),
        "held": held(told, max(let_in, default=0.0)),
    }


def held(calls: Sequence[dict[str, Any]], last_let_in_s: float) -> dict[str, bool]:
    """Which promises were kept."""
    squeezed = [call["squeezed"] for call in calls]
    again = [call["synced_again_s"] for call in calls]
    return {
        "no sound lost or silent": not any(
            call["lost_sound_ms"] or call["silent_sound_ms"] for call in squeezed
        ),
        "no stutter": not any(call["stutters"] for call in squeezed),
        "pictures went on": all(call["fps"] > FPS / 2 for call in squeezed),
        "nobody let in": last_let_in_s <= CLOSED_AFTER_S,
        "synced again": all(s is not None and s <= RECOVERED_AFTER_S for s in again),
    }


async def measure(options: argparse.Namespace) -> list[dict[str, Any]]:
    """The figures of each squeeze, one after another on the same two calls."""
    aiortc_overrides.apply()
    arguments = ["--no-calibration", "--max-sessions", str(2 + FREE_PLACES)]
    server, address, _ = await start_server([*arguments, "--log-level", "error"], stock=False)
    niceness = os.getpriority(os.PRIO_PROCESS, 0)
    seconds = SETTLE_S + len(options.squeezes) * (3 * options.seconds + options.rest) + 30
    noise = steady_noise(seconds)
    pictures = clip_pictures(BUNDLED_AVATARS / options.avatar / "clip.mp4")
    try:
        os.setpriority(os.PRIO_PROCESS, 0, max(niceness - PRIORITY, -20))
        async with (
            httpx.AsyncClient(base_url=address, timeout=60) as client,
            AsyncExitStack() as stack,
        ):
            calls = []
            for mode in ("avatar", "live"):
                camera = Camera(lambda n: pictures[n % len(pictures)]) if mode == "live" else None
                caller = await stack.enter_async_context(
                    recorded_call(
                        "",
                        avatar=None if camera else options.avatar,
                        mode="live" if camera else "avatar",
                        sound=Microphone(noise),
                        camera=camera,
                        http=client,
                    )
                )
                await caller.until(lambda got: bool(got.video), 60)
                calls.append(Watched(caller))
            await watch(calls, SETTLE_S)
            told = []
            for which in options.squeezes:
                told.append(await starve(which, calls, client, server.pid, options))
                if which != options.squeezes[-1]:
                    await watch(calls, options.rest)
    finally:
        os.setpriority(os.PRIO_PROCESS, 0, niceness)
        server.terminate()
        await server.wait()
    return told


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the benchmark; 1 where a promise was not kept."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    parser = argparse.ArgumentParser(prog="python -m benchmarks.starvation", description=__doc__)
    parser.add_argument("--seconds", type=float, default=20.0, help="of each phase (20)")
    parser.add_argument(
        "--squeezes", nargs="+", choices=("quota", "neighbours"), default=["quota", "neighbours"]
    )
    parser.add_argument("--share", type=float, default=0.6, help="of one core, by quota (0.6)")
    parser.add_argument("--per-core", type=int, default=2, help="busy loops (2)")
    parser.add_argument(
        "--rest", type=float, default=60.0, help="seconds until admission opens again (60)"
    )
    parser.add_argument("--avatar", default="anna", help="a bundled one")
    parser.add_argument("--json", type=Path, help="write the figures to a file")
    options = parser.parse_args(given)
    circumstances = asdict(here("python -m benchmarks.starvation", given))
    squeezes = asyncio.run(measure(options))
    circumstances["load_average"] = round(os.getloadavg()[1], 1)
    text = json.dumps({"circumstances": circumstances, "squeezes": squeezes}, indent=2)
    if options.json is not None:
        options.json.write_text(text + "\n", encoding="utf-8")
    sys.stdout.write(text + "\n")
    return int(not all(all(squeeze["held"].values()) for squeeze in squeezes))


if __name__ == "__main__":
    sys.exit(main())
