"""How clean a mouth arrives: what a client receives over WebRTC beside what the engine had made.

    python -m benchmarks.mouth_quality --json mouth_quality.json

A server that keeps every third picture before its encoder (`benchmarks.tapped_server`), and calls
with an avatar: first one, then four at once. Each is silent for eight seconds, then speaks.
Pictures are matched by media time, and the lips' box of both compared: peak signal to noise of
their brightness, at the bitrates that the server chooses by itself. Encoder and network alone are
judged; how good the engine's mouth is, is `lipwire bench quality`'s business.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from benchmarks.report import here
from benchmarks.resting_mouth import PATCH, lips_to_picture
from benchmarks.spoken import speech_in_rooms
from benchmarks.tapped_server import read_tap
from engine.avatar import load_avatar, loop_index
from engine.media import FPS, U8
from server.client.webrtc_call import WebRtcCall, open_call
from server.client.webrtc_connection import ReceivedPicture
from server.config import BUNDLED_AVATARS
from server.webrtc import aiortc_overrides
from server.websocket.wire import US_PER_S

EVERY = 3  # pictures that are compared
BEGINS_S = 2.0  # of a call, left out: the first key frame, and estimates that are made of nothing
RESTS_S = 8.0
SPEAKS_S = 16.0
START_TIMEOUT_S = 120.0
Box = tuple[slice, slice]


class Lips:
    """Where the lips are in each picture of an avatar's clip."""

    def __init__(self, avatar: Path) -> None:
        clip = load_avatar(avatar)
        self._loop = clip.loop
        self._boxes = [_box(lips_to_picture(points)) for points in clip.points]

    def box(self, frame: int) -> Box:
        """Rows and columns around the lips of a picture.

        Args:
            frame: its number on media time.
        """
        return self._boxes[loop_index(frame, len(self._boxes), self._loop)]


def _box(affine: np.ndarray) -> Box:
    width, height = PATCH
    corners = np.array([(x, y, 1.0) for x in (0, width) for y in (0, height)]) @ affine.T
    left, top = np.floor(corners.min(axis=0)).astype(int)
    right, bottom = np.ceil(corners.max(axis=0)).astype(int)
    return slice(max(top, 0), bottom), slice(max(left, 0), right)


def psnr_db(made: U8, received: U8) -> float:
    """Peak signal to noise of one picture against another, in dB; 99 where they are equal."""
    error = np.mean((made.astype(np.float32) - received.astype(np.float32)) ** 2)
    return 99.0 if error == 0 else float(10 * np.log10(255**2 / error))


class Seen:
    """The lips that a call received, by number on media time."""

    def __init__(self, call: WebRtcCall, lips: Lips) -> None:
        self.call = call
        self.lips: dict[int, U8] = {}
        self.rests: set[int] = set()
        self.speaking = False
        self._where = lips

    async def read(self) -> None:
        """Reads until the call is over."""
        async for event in self.call:
            if not isinstance(event, ReceivedPicture) or event.pts_us is None:
                continue
            frame = round(event.pts_us * FPS / US_PER_S)
            if frame % EVERY == 0:
                # Not as "gray", which would be stretched to the full range of brightness.
                i420 = np.asarray(event.frame.to_ndarray(format="yuv420p"), np.uint8)
                self.lips[frame] = i420[: event.frame.height][self._where.box(frame)].copy()
                if not self.speaking:
                    self.rests.add(frame)


async def run_calls(
    address: str, count: int, avatar: str, lips: Lips, folder: Path
) -> dict[str, Any]:
    """The figures of so many calls at once."""
    speech = np.repeat(speech_in_rooms(int(SPEAKS_S)), 3)  # 16 to 48 kHz: for a mouth it will do
    samples = (speech * 32767).clip(-32768, 32767).astype(np.int16)
    async with httpx.AsyncClient(timeout=60) as http, AsyncExitStack() as stack:
        seen = []
        for _ in range(count):
            call = await stack.enter_async_context(open_call(address, avatar=avatar, http=http))
            seen.append(Seen(call, lips))
        reading = [asyncio.create_task(one.read()) for one in seen]
        await asyncio.sleep(BEGINS_S + RESTS_S)
        for one in seen:
            one.speaking = True
        began = time.monotonic()
        await asyncio.gather(*(one.call.say(samples) for one in seen))
        seconds = time.monotonic() - began
        names = [one.call.ready.session for one in seen]
        stats = [one.call.stats for one in seen]
        for task in reading:
            task.cancel()
        await asyncio.gather(*reading, return_exceptions=True)
    resting: list[float] = []
    speaking: list[float] = []
    begin = int(BEGINS_S * FPS)
    for one, name in zip(seen, names, strict=True):
        made = dict(read_tap(folder / name))
        for frame, received in one.lips.items():
            if frame in made and frame > begin:
                found = psnr_db(made[frame][lips.box(frame)], received)
                (resting if frame in one.rests else speaking).append(found)
    return {
        "calls": count,
        "seconds_of_speech": round(seconds, 1),
        "fps": [told.fps for told in stats if told is not None],
        "synced": [told.synced for told in stats if told is not None],
        "resting_db": _spread(resting),
        "speaking_db": _spread(speaking),
    }


def _spread(values: Sequence[float]) -> dict[str, float | int]:
    if not values:
        raise RuntimeError("expected pictures of known media time, none came")
    worst, p5, p50 = np.percentile(values, (0, 5, 50))
    return {
        "p50": round(float(p50), 1),
        "p5": round(float(p5), 1),
        "worst": round(float(worst), 1),
        "pictures": len(values),
    }


async def measure(options: argparse.Namespace) -> list[dict[str, Any]]:
    """The figures of each number of calls, of a server of its own each."""
    aiortc_overrides.apply()
    avatar = BUNDLED_AVATARS / options.avatar
    lips = Lips(avatar)
    told = []
    for count in options.calls:
        with tempfile.TemporaryDirectory() as folder:
            server = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "benchmarks.tapped_server", folder, str(EVERY),
                "serve", "--port", "0", "--no-calibration", "--max-sessions", str(count),
                "--log-level", "error", stdout=asyncio.subprocess.PIPE,
            )  # fmt: skip
            try:
                address = await _address(server)
                told.append(await run_calls(address, count, options.avatar, lips, Path(folder)))
            finally:
                server.terminate()
                await server.wait()
    return told


async def _address(server: asyncio.subprocess.Process) -> str:
    assert server.stdout is not None
    async with asyncio.timeout(START_TIMEOUT_S):
        while line := (await server.stdout.readline()).decode():
            if "is ready" in line:
                return line.rsplit(" ", 1)[1].strip()
    raise RuntimeError("the server ended before it was ready; its log says why")


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the benchmark; the exit status."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    parser = argparse.ArgumentParser(prog="python -m benchmarks.mouth_quality", description=__doc__)
    parser.add_argument("--calls", type=int, nargs="+", default=[1, 4], help="at once (1 and 4)")
    parser.add_argument("--avatar", default="anna", help="a bundled one")
    parser.add_argument("--json", type=Path, help="write the figures to a file")
    options = parser.parse_args(given)
    circumstances = asdict(here("python -m benchmarks.mouth_quality", given))
    runs = asyncio.run(measure(options))
    circumstances["load_average"] = round(os.getloadavg()[1], 1)
    text = json.dumps({"circumstances": circumstances, "runs": runs}, indent=2)
    if options.json is not None:
        options.json.write_text(text + "\n", encoding="utf-8")
    sys.stdout.write(text + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
