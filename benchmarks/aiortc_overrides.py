"""What the overrides of aiortc are worth: glass to glass through an echo, stock against patched.

    python -m benchmarks.aiortc_overrides --seconds 30 --json overrides.json

A caller sends 25 marked pictures and a voice with clicks every second, an echo in another process
sends them back (`benchmarks.echo`), and both ends run either aiortc as it comes or
`server.webrtc.aiortc_overrides`. Without loss, and with a share of all packets lost each way. The
four
cases are run in turn, so that what else the machine does befalls them alike.
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

import numpy as np
from aiortc import RTCConfiguration

from benchmarks.caller import FPS, SOUND_HZ, Camera, Recording
from benchmarks.echo import lose_packets
from benchmarks.latency import CLICK_EVERY, HEARD_PEAK, Spread, speech_with_clicks
from benchmarks.report import here
from server.client.capture import Microphone
from server.client.webrtc_connection import Connection
from server.config import REPOSITORY
from server.webrtc import aiortc_overrides

SETTLE_S = 3.0
SIZES = {"256": (256, 256), "512": (512, 512), "640x480": (640, 480)}


async def call(
    seconds: float, size: tuple[int, int], *, patched: bool, loss: float, namespace: str | None
) -> dict[str, Any]:
    """One call's figures; `apply` and the loss of this process are up to the caller.

    Args:
        namespace: of the network that the echo lives in; None: this one.
    """
    samples, places = speech_with_clicks(seconds + SETTLE_S + 2, None)
    width, height = size
    dice = np.random.default_rng(0)
    base = dice.integers(60, 180, (height * 3 // 2 // 8, width // 8), np.uint8)
    picture = np.kron(base, np.ones((8, 8), np.uint8)).astype(np.uint8)
    microphone, camera = Microphone(samples), Camera(lambda number: np.roll(picture, number, 1))
    caller = Recording(marked=True)
    connection = Connection(
        microphone, camera, RTCConfiguration(iceServers=[]), caller.take, lambda: None
    )
    inside = ("ip", "netns", "exec", namespace) if namespace else ()
    echo = await asyncio.create_subprocess_exec(
        *inside, sys.executable, "-m", "benchmarks.echo",
        "patched" if patched else "stock", str(loss),
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, cwd=REPOSITORY,
    )  # fmt: skip
    assert echo.stdin is not None and echo.stdout is not None
    try:
        echo.stdin.write(json.dumps({"sdp": await connection.offer()}).encode() + b"\n")
        answer = json.loads(await echo.stdout.readline())
        await connection.accept(answer["sdp"])
        await caller.until(lambda got: bool(got.video), 30)
        await asyncio.sleep(SETTLE_S)
        began = time.monotonic()
        await asyncio.sleep(seconds)
        received = caller.received
        video = [entry for entry in received.video if entry[0] >= began]
        video_ms = [
            1000 * (at - camera.taken[mark]) for at, _, mark, *_ in video if mark in camera.taken
        ]
        gaps = np.diff([at for at, *_ in video])
        assert microphone.began is not None
        sound_ms = _click_delays(received.sound, microphone.began, places, began)
        figures = {
            "aiortc": "patched" if patched else "stock",
            "loss": loss,
            "video_ms": asdict(Spread.of(video_ms)),
            "sound_ms": asdict(Spread.of(sound_ms)),
            "pictures_of_100": round(100 * len(video) / (FPS * seconds), 1),
            "longest_freeze_ms": round(1000 * float(gaps.max()), 1) if len(gaps) else None,
        }
    finally:
        await connection.close()
        echo.stdin.close()
        await echo.wait()
    return figures


def _click_delays(
    sound: list[tuple[float, int, int, int]], captured_from: float, places: list[int], began: float
) -> list[float]:
    """Delay of each click, from its capture until it could be played, in ms."""
    heard = [(at, place) for at, _, peak, place in sound if peak > HEARD_PEAK]
    delays = []
    for place in places:
        captured = captured_from + place / SOUND_HZ
        later = [(at, p) for at, p in heard if 0 < at - captured < CLICK_EVERY / SOUND_HZ]
        if later and captured > began:
            at, inside = later[0]
            delays.append(1000 * (at + inside / SOUND_HZ - captured))
    return delays


def run_case(
    seconds: float, size: tuple[int, int], *, patched: bool, loss: float, namespace: str | None
) -> dict[str, Any]:
    """One case in a process of its own, because patches and losses are for good."""
    if patched:
        aiortc_overrides.apply()
    lose_packets(loss, seed=1)
    return asyncio.run(call(seconds, size, patched=patched, loss=loss, namespace=namespace))


async def _spawn(arguments: list[str]) -> dict[str, Any]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "benchmarks.aiortc_overrides", *arguments,
        stdout=asyncio.subprocess.PIPE, cwd=REPOSITORY,
    )  # fmt: skip
    output, _ = await process.communicate()
    figures: dict[str, Any] = json.loads(output)
    return figures


async def measure(options: argparse.Namespace) -> list[dict[str, Any]]:
    """The figures of every case, one after another."""
    common = ["--seconds", str(options.seconds), "--size", options.size]
    return [
        await _spawn([*common, "--case", which, str(loss)])
        for loss in options.losses
        for which in ("stock", "patched")
    ]


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the benchmark; the exit status."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.aiortc_overrides", description=__doc__
    )
    parser.add_argument("--seconds", type=float, default=30.0, help="measured of each case")
    parser.add_argument("--losses", type=float, nargs="+", default=[0.0, 0.01])
    parser.add_argument("--size", choices=sorted(SIZES), default="256", help="of the pictures")
    parser.add_argument("--case", nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--echo-namespace", help=argparse.SUPPRESS)
    parser.add_argument("--json", type=Path, help="write the figures to a file")
    options = parser.parse_args(given)
    if options.case is not None:
        which, loss = options.case
        case = run_case(
            options.seconds,
            SIZES[options.size],
            patched=which == "patched",
            loss=float(loss),
            namespace=options.echo_namespace,
        )
        sys.stdout.write(json.dumps(case))
        return 0
    circumstances = asdict(here("python -m benchmarks.aiortc_overrides", given))
    cases = asyncio.run(measure(options))
    circumstances["load_average"] = round(os.getloadavg()[1], 1)
    text = json.dumps(
        {"circumstances": circumstances, "size": options.size, "cases": cases}, indent=2
    )
    if options.json is not None:
        options.json.write_text(text + "\n", encoding="utf-8")
    sys.stdout.write(text + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
