"""Real minutes of calls whose clients' clocks are fast and slow: drift of sound and picture.

    python -m benchmarks.real_drift --minutes 30 --ppm 200 --json real_drift.json

A server as its user starts it, and two clients in processes of their own, over WebRTC. One client's
sound and camera run fast by so many millionths, the other's slow: it captures, stamps and sends by
that clock, and dates what comes back by the machine's. After 30 minutes at 200 ppm the clocks are
360 ms apart. What must not follow is the delay of a click and of a picture from its capture to its
return, and the one less the other. Playout's own delay, which follows the load of the machine, is
told by the server once a second and taken off.

A client that hears or sees nothing for five minutes has no drift to tell: its figures say so under
`missing`, and the exit status is 1.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from aiortc import MediaStreamTrack, RTCConfiguration, RTCPeerConnection, RTCSessionDescription
from aiortc.mediastreams import MediaStreamError
from av import AudioFrame, VideoFrame

from benchmarks.caller import BLOCK_SAMPLES, FPS, MARK_BITS, SOUND_HZ, draw_mark, read_mark
from benchmarks.latency import HEARD_PEAK, start_server
from benchmarks.report import here
from server.config import REPOSITORY
from server.protocol import CHANNEL
from server.webrtc import aiortc_overrides

CLICK_EVERY_S = 2.0  # of the client's clock; longer than any delay
CLICK_PEAK = 26_000
SIZE = (192, 144)  # the smallest that carries a mark: what matters here is time
WINDOW_S = 300.0
SETTLE_S = 20.0  # connecting, and playout's first delay
MARKS = 1 << MARK_BITS


class SkewedClock:
    """A clock that runs fast by `ppm` millionths.

    Attributes:
        began: `time.monotonic` of its zero.
    """

    def __init__(self, ppm: float) -> None:
        self._rate = 1.0 + ppm * 1e-6
        self.began = time.monotonic()

    def when(self, seconds: float) -> float:
        """`time.monotonic` at which this clock shows so many seconds."""
        return self.began + seconds / self._rate

    def shows(self, at: float) -> float:
        """Seconds that this clock shows at a moment of `time.monotonic`."""
        return (at - self.began) * self._rate

    async def wait_until(self, seconds: float) -> None:
        await asyncio.sleep(max(self.when(seconds) - time.monotonic(), 0.0))


class Clicks(MediaStreamTrack):
    """A microphone by that clock: a click every two seconds in faint noise."""

    kind = "audio"

    def __init__(self, clock: SkewedClock) -> None:
        super().__init__()
        self._clock = clock
        self._next = 0
        self._noise = np.random.default_rng(0).integers(-300, 300, BLOCK_SAMPLES, np.int16)
        self._click = (np.sin(np.arange(240) / 240 * np.pi * 10) * CLICK_PEAK).astype(np.int16)

    async def recv(self) -> AudioFrame:
        if self.readyState != "live":
            raise MediaStreamError
        await self._clock.wait_until((self._next + BLOCK_SAMPLES) / SOUND_HZ)
        block = self._noise.copy()
        if self._next % int(CLICK_EVERY_S * SOUND_HZ) == 0:
            block[: len(self._click)] = self._click
        frame = AudioFrame.from_ndarray(block.reshape(1, -1), format="s16", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = SOUND_HZ, self._next, Fraction(1, SOUND_HZ)
        self._next += BLOCK_SAMPLES
        return frame


class MarkedPictures(MediaStreamTrack):
    """A camera by that clock: 25 marked pictures a second."""

    kind = "video"

    def __init__(self, clock: SkewedClock) -> None:
        super().__init__()
        self._clock = clock
        self._number = 0

    async def recv(self) -> VideoFrame:
        if self.readyState != "live":
            raise MediaStreamError
        await self._clock.wait_until(self._number / FPS)
        i420 = np.full((SIZE[1] * 3 // 2, SIZE[0]), 110, np.uint8)
        draw_mark(i420, self._number % MARKS)
        frame = VideoFrame.from_ndarray(i420, format="yuv420p")
        frame.pts, frame.time_base = self._number * 90_000 // FPS, Fraction(1, 90_000)
        self._number += 1
        return frame


@dataclass(slots=True)
class Observed:
    """What a client saw: pairs of a monotonic time and milliseconds.

    Attributes:
        sound, picture: from capture to return.
        playout: the server's own delay, as it says.
    """

    sound: list[tuple[float, float]]
    picture: list[tuple[float, float]]
    playout: list[tuple[float, float]]
    last_stats: dict[str, Any]


async def observe(address: str, ppm: float, seconds: float) -> Observed:
    """One call of so many seconds."""
    clock = SkewedClock(ppm)
    seen = Observed([], [], [], {})
    connection = RTCPeerConnection(RTCConfiguration(iceServers=[]))
    tasks: list[asyncio.Task[None]] = []

    async def hear(track: MediaStreamTrack) -> None:
        deaf_until = 0.0  # the codec's echo of a click can be loud in the next block too
        while True:
            frame = await track.recv()
            assert isinstance(frame, AudioFrame)
            arrived = time.monotonic()
            loud = np.abs(frame.to_ndarray().reshape(-1, 2)[:, 0].astype(np.int32))
            if loud.max() > HEARD_PEAK and arrived > deaf_until:
                deaf_until = arrived + CLICK_EVERY_S / 2
                at = arrived + int(loud.argmax()) / SOUND_HZ
                seen.sound.append((arrived, click_delay_ms(clock, at)))

    async def watch(track: MediaStreamTrack) -> None:
        while True:
            frame = await track.recv()
            assert isinstance(frame, VideoFrame)
            arrived = time.monotonic()
            mark = read_mark(np.asarray(frame.to_ndarray(format="gray"), np.uint8))
            newest = int(clock.shows(arrived) * FPS)
            number = newest - (newest - mark) % MARKS
            seen.picture.append((arrived, 1e3 * (arrived - clock.when(number / FPS))))

    def take(data: str) -> None:
        message = json.loads(data)
        if message["type"] == "stats":
            seen.last_stats = message
            seen.playout.append((time.monotonic(), message["playout_delay_ms"]))

    def on_track(track: MediaStreamTrack) -> None:
        tasks.append(asyncio.create_task((hear if track.kind == "audio" else watch)(track)))

    connection.on("track", on_track)
    connection.addTrack(Clicks(clock))
    connection.addTrack(MarkedPictures(clock))
    connection.createDataChannel(CHANNEL).on("message", take)
    await connection.setLocalDescription(await connection.createOffer())
    async with httpx.AsyncClient(base_url=address, timeout=30) as http:
        answer = await http.post(
            "/v1/sessions?mode=live",
            content=connection.localDescription.sdp,
            headers={"content-type": "application/sdp"},
        )
        answer.raise_for_status()
        await connection.setRemoteDescription(RTCSessionDescription(answer.text, "answer"))
        await asyncio.sleep(seconds)
        await http.delete(answer.headers["location"])
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await connection.close()
    return seen


Medians = list[float | None]


def click_delay_ms(clock: SkewedClock, at: float) -> float:
    """How long before `at` the last click was captured, in ms: clicks are the client's clock's."""
    turn = clock.shows(at) // CLICK_EVERY_S
    return 1e3 * (at - clock.when(turn * CLICK_EVERY_S))


def window_medians(values: list[tuple[float, float]], began: float, count: int) -> Medians:
    """Median of each window of five minutes, in ms; None where nothing came."""
    medians: Medians = []
    for window in range(count):
        first = began + window * WINDOW_S
        inside = [value for at, value in values if first <= at < first + WINDOW_S]
        medians.append(round(float(np.median(inside)), 1) if inside else None)
    return medians


def figures_of(seen: Observed, ppm: float, minutes: float) -> dict[str, Any]:
    """What the call shows of drift: first window against last."""
    count = max(int(minutes * 60 / WINDOW_S), 1)
    arrivals = [at for values in (seen.picture, seen.sound, seen.playout) for at, _ in values]
    if not arrivals:
        return {"ppm": ppm, "missing": ["anything at all"]}
    began = min(arrivals) + SETTLE_S
    sound, picture, playout = (
        window_medians(values, began, count) for values in (seen.sound, seen.picture, seen.playout)
    )
    beyond, skew = _differences(sound, playout), _differences(picture, sound)
    told = {"clicks": sound, "pictures": picture, "figures of the server": playout}
    return {
        "ppm": ppm,
        "missing": [
            f"{name} in {_told(medians)}" for name, medians in told.items() if None in medians
        ],
        "clocks_apart_ms": round((count - 1) * WINDOW_S * ppm * 1e-3, 1),
        "sound_drift_ms": _drift(beyond),
        "picture_minus_sound_drift_ms": _drift(skew),
        "sound_ms": sound,
        "picture_ms": picture,
        "playout_ms": playout,
        "sound_beyond_playout_ms": beyond,
        "picture_minus_sound_ms": skew,
        "clicks_heard": len(seen.sound),
        "clicks_sent": int((max(arrivals) - min(arrivals)) / CLICK_EVERY_S),
        "pictures": len(seen.picture),
        "fps": round(len(seen.picture) / (max(arrivals) - min(arrivals)), 2),
        "last_stats": seen.last_stats,
    }


def _differences(values: Medians, others: Medians) -> Medians:
    return [
        None if value is None or other is None else round(value - other, 1)
        for value, other in zip(values, others, strict=True)
    ]


def _drift(differences: Medians) -> float | None:
    """The last against the first; None where either is not known."""
    first, last = differences[0], differences[-1]
    return None if first is None or last is None else round(last - first, 1)


def _told(medians: Medians) -> str:
    """The windows in which nothing came, in minutes."""
    minutes = int(WINDOW_S / 60)
    windows = [index for index, median in enumerate(medians) if median is None]
    return "minutes " + ", ".join(f"{n * minutes} to {(n + 1) * minutes}" for n in windows)


async def measure(options: argparse.Namespace) -> list[dict[str, Any]]:
    """The figures of both clients."""
    server, address, _ = await start_server(
        ["--max-sessions", "2", "--log-level", "warning"], stock=False
    )
    try:
        clients = [
            await asyncio.create_subprocess_exec(
                sys.executable, "-m", "benchmarks.real_drift", "--client", address,
                "--minutes", str(options.minutes), "--ppm", str(ppm),
                stdout=asyncio.subprocess.PIPE, cwd=REPOSITORY,
            )
            for ppm in (options.ppm, -options.ppm)
        ]  # fmt: skip
        outputs = await asyncio.gather(*(client.communicate() for client in clients))
    finally:
        server.terminate()
        await server.wait()
    if any(client.returncode for client in clients):
        raise RuntimeError("a client ended before its call was over; its traceback is above")
    return [json.loads(output) for output, _ in outputs]


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the benchmark; 1 where a client missed something for five minutes."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    parser = argparse.ArgumentParser(prog="python -m benchmarks.real_drift", description=__doc__)
    parser.add_argument("--minutes", type=float, default=30.0, help="real ones, after 20 s (30)")
    parser.add_argument("--ppm", type=float, default=200.0, help="of the fast client; -ppm: slow")
    parser.add_argument("--client", metavar="ADDRESS", help=argparse.SUPPRESS)
    parser.add_argument("--json", type=Path, help="write the figures to a file")
    options = parser.parse_args(given)
    if options.client is not None:
        aiortc_overrides.apply()
        seconds = options.minutes * 60 + SETTLE_S + 1
        seen = asyncio.run(observe(options.client, options.ppm, seconds))
        sys.stdout.write(json.dumps(figures_of(seen, options.ppm, options.minutes)))
        return 0
    circumstances = asdict(here("python -m benchmarks.real_drift", given))
    clients = asyncio.run(measure(options))
    circumstances["load_average"] = round(os.getloadavg()[2], 1)
    figures = {"circumstances": circumstances, "clients": clients}
    text = json.dumps(figures, indent=2, allow_nan=False)
    if options.json is not None:
        options.json.write_text(text + "\n", encoding="utf-8")
    sys.stdout.write(text + "\n")
    for client in clients:
        for missing in client["missing"]:
            sys.stderr.write(f"the client at {client['ppm']:+.0f} ppm missed {missing}\n")
    return int(any(client["missing"] for client in clients))


if __name__ == "__main__":
    sys.exit(main())
