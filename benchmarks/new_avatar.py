"""What the calls that go on notice when somebody calls an avatar that the engine has not seen yet.

    python -m benchmarks.new_avatar --json new_avatar.json

One call speaks without a pause. Every few seconds another one begins with an avatar that is new to
the engine, as after an upload. Measured is how long after the arrival of its last sound each hop of
the first call is ready: while nothing else happens, and from each newcomer's beginning to its first
picture.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.latency import Spread
from benchmarks.report import here
from engine.media import F32, FPS, FRAME_SAMPLES
from server.config import BUNDLED_AVATARS, Settings
from server.engine_link.host import EngineHost
from server.engine_link.messages import HopReady
from server.engine_link.settings import engine_settings
from server.engine_link.stream import EngineFrame, EngineStream

QUIET_S = 4.0  # before each newcomer
AVATAR = "anna"
SIZE = (512, 512)


class Listener:
    """Notes when each frame's sound was pushed and when its hop was ready."""

    def __init__(self) -> None:
        self.pushed: list[float] = []
        self.ready: list[tuple[float, float]] = []  # when, ms after the hop's last frame's sound
        self.late_hops = 0
        self.first = asyncio.Event()

    def on_hop(self, frames: Sequence[EngineFrame], hop: HopReady) -> None:
        now = time.monotonic()
        self.late_hops += hop.late_hops
        self.first.set()
        if frames and frames[-1].index < len(self.pushed):
            self.ready.append((now, (now - self.pushed[frames[-1].index]) * 1000))

    def on_stream_failed(self, code: str, message: str) -> None:
        raise RuntimeError(f"{code}: {message}")

    def on_engine_lost(self) -> None:
        raise RuntimeError("the engine is gone")


async def speak(stream: EngineStream, listener: Listener, voice: F32) -> None:
    """Pushes a frame's sound when it is due, for ever."""
    began = time.monotonic()
    while True:
        at = len(listener.pushed)
        await asyncio.sleep(max(began + at / FPS - time.monotonic(), 0))
        listener.pushed.append(time.monotonic())
        first = at * FRAME_SAMPLES % (len(voice) - FRAME_SAMPLES)
        stream.push_audio(voice[first : first + FRAME_SAMPLES])


async def measure(newcomers: int, folder: Path, backend: str) -> dict[str, Any]:
    """The figures."""
    for number in range(newcomers):
        shutil.copytree(BUNDLED_AVATARS / AVATAR, folder / f"new{number}")
    settings = Settings(backend=backend, avatar_dirs=(folder,), calibrate=False)
    host = EngineHost(replace(engine_settings(settings), prepare=(AVATAR,)))
    await host.start()
    rng = np.random.default_rng(0)
    voice = (rng.standard_normal(80 * FRAME_SAMPLES) * 0.1).astype(np.float32)
    neighbour = Listener()
    stream = host.open_stream("neighbour", "avatar", AVATAR, SIZE, neighbour)
    speaking = [asyncio.create_task(speak(stream, neighbour, voice))]
    beginnings: list[tuple[float, float]] = []
    await neighbour.first.wait()
    try:
        for number in range(newcomers):
            await asyncio.sleep(QUIET_S)
            came = Listener()
            began = time.monotonic()
            other = host.open_stream(f"new{number}", "avatar", f"new{number}", SIZE, came)
            speaking.append(asyncio.create_task(speak(other, came, voice)))
            await came.first.wait()
            beginnings.append((began, time.monotonic()))
            speaking.pop().cancel()
            other.close()
    finally:
        for task in speaking:
            task.cancel()
        await asyncio.gather(*speaking, return_exceptions=True)
        ready = host.ready
        await host.stop()
    beside = [ms for at, ms in neighbour.ready if any(a <= at <= b for a, b in beginnings)]
    alone = [ms for at, ms in neighbour.ready if not any(a <= at <= b + 1 for a, b in beginnings)]
    assert ready is not None
    return {
        "backend": ready.backend,
        "newcomers": newcomers,
        "neighbour_hop_ready_ms": asdict(Spread.of(alone)),
        "neighbour_hop_ready_ms_beside_newcomers": asdict(Spread.of(beside)),
        "neighbour_late_hops": neighbour.late_hops,
        "newcomer_first_picture_s": asdict(Spread.of([b - a for a, b in beginnings])),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--newcomers", type=int, default=5)
    parser.add_argument("--backend", default="auto")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        figures = asyncio.run(measure(arguments.newcomers, Path(folder), arguments.backend))
    result = {
        "circumstances": asdict(here("python -m benchmarks.new_avatar", sys.argv[1:])),
        **figures,
    }
    text = json.dumps(result, indent=2) + "\n"
    if arguments.json is not None:
        arguments.json.write_text(text, encoding="utf-8")
    sys.stdout.write(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
