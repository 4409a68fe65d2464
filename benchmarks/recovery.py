"""What a call hears and sees when the engine process is killed, again and again, in mid-call.

    python -m benchmarks.recovery --kills 50 --json recovery.json

A server is started as its user starts it and called over UDP in live mode. Each time the
engine is synced it gets SIGKILL. Counted are sound that did not come or came silent, pictures
that did not come, and the time until generated mouths are shown again. The engine's processor
time until it is loaded is given too: on a busy machine only that can be compared. `passthrough` as
the backend leaves the model out: its pictures count as soon as the engine gives any.

A backend that loses its engine three times within a minute gives way to the next best. So figures
are told by the backend that came back; `--pause 31` keeps the first.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from benchmarks.caller import BLOCK_SAMPLES, SOUND_HZ, Camera, RecordedCall, recorded_call
from benchmarks.latency import CLOCK_TICKS, Spread, clip_pictures, start_server
from benchmarks.report import here
from server.client.capture import Microphone
from server.config import BUNDLED_AVATARS
from server.webrtc import aiortc_overrides

POLL_S = 0.1
RECOVER_TIMEOUT_S = 120.0
SILENT_PEAK = 200  # of int16: the microphone's noise is far louder


@dataclass(frozen=True, slots=True)
class Recovery:
    """One kill.

    Attributes:
        backend: what the new engine runs.
        noticed_s: until the gateway began to start another engine.
        ready_s: until that engine was loaded.
        synced_s: until the first picture with a generated mouth.
        engine_cpu_s: processor time of the new engine until it was loaded.
        lost_sound_ms, silent_sound_ms: sound whose place stayed empty, or came without voice.
        longest_picture_gap_ms: between two pictures.
    """

    backend: str
    noticed_s: float
    ready_s: float
    synced_s: float
    engine_cpu_s: float
    lost_sound_ms: float
    silent_sound_ms: float
    longest_picture_gap_ms: float


class Watched:
    """The server's own view: state of the engine, and pictures with a generated mouth."""

    def __init__(self, client: httpx.AsyncClient, pid: int, kind: str) -> None:
        """
        Args:
            kind: of the pictures that count, as in `lipwire_frames_total`.
        """
        self._client = client
        self._pid = pid
        self._kind = kind

    async def engine(self) -> dict[str, Any]:
        """What the server says of its engine: `state`, `restarts`, `backend` ..."""
        found: dict[str, Any] = (await self._client.get("/v1/status")).json()["engine"]
        return found

    async def synced_frames(self) -> int:
        text = (await self._client.get("/metrics")).text
        found = re.search(rf'lipwire_frames_total\{{kind="{self._kind}"\}} (\d+)', text)
        return int(found[1]) if found else 0

    def engine_pid(self) -> int:
        """The gateway's child that is not Python's own resource tracker."""
        children = Path(f"/proc/{self._pid}/task/{self._pid}/children").read_text().split()
        engines = [
            int(pid)
            for pid in children
            if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()
        ]
        assert len(engines) == 1, f"expected one engine, found {engines}"
        return engines[0]


async def _until_synced_after(watched: Watched, count: int) -> None:
    async with asyncio.timeout(RECOVER_TIMEOUT_S):
        while await watched.synced_frames() <= count:
            await asyncio.sleep(POLL_S)


async def kill_once(watched: Watched, caller: RecordedCall, pause_s: float) -> Recovery:
    """Kills the engine, waits until mouths are generated again, and a while longer."""
    restarts = (await watched.engine())["restarts"]
    began = time.monotonic()
    os.kill(watched.engine_pid(), signal.SIGKILL)
    noticed = ready = 0.0
    async with asyncio.timeout(RECOVER_TIMEOUT_S):
        while not ready:
            engine = await watched.engine()
            elapsed = time.monotonic() - began
            if engine["restarts"] > restarts:
                noticed = noticed or elapsed
                if engine["state"] == "ready":
                    ready = elapsed
                    break
            await asyncio.sleep(POLL_S)
    cpu_s = _cpu_s(watched.engine_pid())
    # What playout still held of the dead engine has left by now: the next is the new one's.
    await _until_synced_after(watched, await watched.synced_frames())
    synced = time.monotonic() - began
    await asyncio.sleep(pause_s)
    lost, silent = _sound_since(caller, began)
    arrivals = [arrival for arrival, *_ in caller.received.video if arrival > began - 1]
    gaps = np.diff(arrivals) if len(arrivals) > 1 else np.array([np.inf])
    return Recovery(
        backend=engine["backend"],
        noticed_s=round(noticed, 2),
        ready_s=round(ready, 2),
        synced_s=round(synced, 2),
        engine_cpu_s=round(cpu_s, 2),
        lost_sound_ms=lost,
        silent_sound_ms=silent,
        longest_picture_gap_ms=round(1000 * float(gaps.max()), 1),
    )


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / CLOCK_TICKS


def _sound_since(caller: RecordedCall, began: float) -> tuple[float, float]:
    """(ms of sound whose place stayed empty, ms that came without voice) since `began`."""
    blocks = [(pts, peak) for arrival, pts, peak, _ in caller.received.sound if arrival > began]
    steps = np.diff([pts for pts, _ in blocks])
    lost = int(np.maximum(steps - BLOCK_SAMPLES, 0).sum())
    silent = sum(peak < SILENT_PEAK for _, peak in blocks) * BLOCK_SAMPLES
    return 1000 * lost / SOUND_HZ, 1000 * silent / SOUND_HZ


async def measure(options: argparse.Namespace) -> dict[str, Any]:
    """The recoveries of one call and their percentiles."""
    aiortc_overrides.apply()
    noise = np.random.default_rng(0).standard_normal(60 * SOUND_HZ) * 3000
    microphone = Microphone(np.tile(noise.astype(np.int16), 60))
    pictures = clip_pictures(options.camera)
    camera = Camera(lambda number: pictures[number % len(pictures)])
    arguments = ["--backend", options.backend, "--model", options.model, "--log-level", "error"]
    os.environ["LIPWIRE_CALIBRATE"] = "false"
    server, address, _ = await start_server(arguments, stock=False)
    recoveries: list[Recovery] = []
    try:
        async with httpx.AsyncClient(base_url=address, timeout=30) as client:
            kind = "rest" if options.backend == "passthrough" else "synced"
            watched = Watched(client, server.pid, kind)
            async with recorded_call(
                address, mode="live", sound=microphone, camera=camera, http=client
            ) as caller:
                await caller.until(lambda got: bool(got.video), 30)
                await _until_synced_after(watched, 0)
                await asyncio.sleep(options.pause)
                for number in range(options.kills):
                    recovery = await kill_once(watched, caller, options.pause)
                    recoveries.append(recovery)
                    sys.stderr.write(f"{number + 1}/{options.kills} {recovery}\n")
    finally:
        server.terminate()
        await server.wait()
    return {
        "kills": len(recoveries),
        "synced_again_s": {
            backend: asdict(Spread.of([r.synced_s for r in recoveries if r.backend == backend]))
            for backend in sorted({r.backend for r in recoveries})
        },
        "noticed_s": asdict(Spread.of([r.noticed_s for r in recoveries])),
        "engine_cpu_s": asdict(Spread.of([r.engine_cpu_s for r in recoveries])),
        "lost_sound_ms": sum(r.lost_sound_ms for r in recoveries),
        "silent_sound_ms": sum(r.silent_sound_ms for r in recoveries),
        "longest_picture_gap_ms": asdict(Spread.of([r.longest_picture_gap_ms for r in recoveries])),
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the benchmark; the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.recovery", description=__doc__)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--camera", type=Path, default=BUNDLED_AVATARS / "anna" / "clip.mp4")
    parser.add_argument("--model", default="bundled")
    parser.add_argument("--backend", default="auto")
    parser.add_argument("--pause", type=float, default=2.0, help="seconds after each (2)")
    parser.add_argument("--json", type=Path, help="write the figures to a file")
    given = list(sys.argv[1:] if arguments is None else arguments)
    options = parser.parse_args(given)
    circumstances = asdict(here("python -m benchmarks.recovery", given))
    figures = asyncio.run(measure(options))
    circumstances["load_average"] = round(os.getloadavg()[1], 1)
    text = json.dumps({"circumstances": circumstances, **figures}, indent=2)
    if options.json is not None:
        options.json.write_text(text + "\n", encoding="utf-8")
    sys.stdout.write(text + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
