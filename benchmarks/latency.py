"""Glass to glass: how late a call's sound and pictures come back, and what that costs.

    lipwire bench latency --out report
    lipwire bench latency --mode live --camera me.mp4 --seconds 30 --stock

A server is started as its user starts it; a peer calls it over UDP from this
process. In live mode every camera picture carries its number, so a picture's
own way is timed; in avatar mode a picture's age follows from its sender
report, which dates it on the clock of the sound. Sound is timed by clicks in
the speech. Both ends run on one machine, so clocks agree and the network costs
nothing; a real peer adds its own path and its jitter buffer.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import av
import httpx
import numpy as np
from av.audio.resampler import AudioResampler

from benchmarks.caller import SOUND_HZ, Camera, Received, RecordedCall, recorded_call
from benchmarks.report import BarPlot, Report, Section, Table, cpu_name, here, write_report
from server.client.capture import I16, U8, Microphone
from server.protocol import Stats
from server.webrtc import aiortc_overrides
from server.websocket.wire import US_PER_S

START_TIMEOUT_S = 120.0
SETTLE_S = 3.0  # left out of every percentile: connecting, first delay
CLICK_EVERY = 2 * SOUND_HZ  # longer than any delay, so that no click is taken for the one before
CLICK_PEAK = 26_000
SPEECH_PEAK = 6_000
HEARD_PEAK = 10_000  # the codec softens a click to about 14 000
CLOCK_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Spread:
    """Median, 95th percentile and worst, and how many were measured."""

    p50: float | None
    p95: float | None
    worst: float | None
    count: int

    @classmethod
    def of(cls, values: list[float]) -> Spread:
        if not values:
            return cls(None, None, None, 0)
        p50, p95 = np.percentile(values, (50, 95))
        return cls(round(float(p50), 1), round(float(p95), 1), round(max(values), 1), len(values))


def speech_with_clicks(seconds: float, path: Path | None) -> tuple[I16, list[int]]:
    """Mono 48 kHz speech and the places of the clicks in it.

    Args:
        path: a sound file to repeat; without one, noise in syllables.
    """
    count = int(seconds * SOUND_HZ)
    if path is not None:
        samples = np.resize(_decode(path), count)
    else:
        dice = np.random.default_rng(0)
        syllables = np.abs(np.sin(np.arange(count) / SOUND_HZ * np.pi * 4))
        samples = (dice.standard_normal(count) * 2500 * syllables).astype(np.int16)
    samples = np.clip(samples, -SPEECH_PEAK, SPEECH_PEAK).astype(np.int16)
    tone = (np.sin(np.arange(240) / 240 * np.pi * 10) * CLICK_PEAK).astype(np.int16)
    places = list(range(CLICK_EVERY, count - len(tone), CLICK_EVERY))
    for place in places:
        samples[max(place - 480, 0) : place + 480] = 0
        samples[place : place + len(tone)] = tone
    return samples, places


def _decode(path: Path) -> I16:
    resampler = AudioResampler(format="s16", layout="mono", rate=SOUND_HZ)
    parts = []
    with av.open(str(path)) as container:
        for frame in container.decode(audio=0):
            parts += [part.to_ndarray().reshape(-1) for part in resampler.resample(frame)]
    return np.concatenate(parts).astype(np.int16)


def clip_pictures(path: Path) -> list[U8]:
    """The I420 pictures of a clip: a face for the camera."""
    with av.open(str(path)) as container:
        return [
            np.asarray(frame.to_ndarray(format="yuv420p"), np.uint8)
            for frame in container.decode(video=0)
        ]


class Processes:
    """The server and its children, with their CPU time and memory from /proc."""

    def __init__(self, pid: int) -> None:
        self._pid = pid

    def cpu_s(self) -> dict[str, float]:
        """CPU seconds so far of "gateway" and "engine"."""
        return {
            name: sum(_cpu_ticks(pid) for pid in pids) / CLOCK_TICKS
            for name, pids in self._pids().items()
        }

    def rss_mb(self) -> dict[str, float]:
        return {
            name: round(sum(_rss_bytes(pid) for pid in pids) / 2**20, 1)
            for name, pids in self._pids().items()
        }

    def _pids(self) -> dict[str, list[int]]:
        children = Path(f"/proc/{self._pid}/task/{self._pid}/children").read_text().split()
        return {"gateway": [self._pid], "engine": [int(child) for child in children]}


def _cpu_ticks(pid: int) -> int:
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return int(fields[11]) + int(fields[12])


def _rss_bytes(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


async def start_server(
    arguments: list[str], *, stock: bool
) -> tuple[asyncio.subprocess.Process, str, float]:
    """A server, its address and the seconds until it was ready."""
    began = time.monotonic()
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "server", "serve", "--port", "0", *arguments,
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, "LIPWIRE_AIORTC_OVERRIDES": "false" if stock else "true"},
    )  # fmt: skip
    assert process.stdout is not None
    async with asyncio.timeout(START_TIMEOUT_S):
        while line := (await process.stdout.readline()).decode():
            if "is ready" in line:
                return process, line.rsplit(" ", 1)[1].strip(), time.monotonic() - began
    raise RuntimeError("the server ended before it was ready; its log says why")


async def measure(options: argparse.Namespace) -> dict[str, Any]:
    """One call's figures."""
    if not options.stock:
        aiortc_overrides.apply()
    seconds = options.seconds + SETTLE_S + 2
    samples, places = speech_with_clicks(seconds, options.speech)
    arguments = ["--backend", options.backend, "--model", options.model, "--log-level", "warning"]
    for folder in options.avatars:
        arguments += ["--avatars", str(folder)]
    server, address, start_s = await start_server(arguments, stock=options.stock)
    try:
        async with httpx.AsyncClient(base_url=address, timeout=30) as client:
            microphone = Microphone(samples)
            camera, query = await _source(client, options)
            async with recorded_call(
                address, sound=microphone, camera=camera, http=client, **query
            ) as caller:
                await caller.until(lambda got: bool(got.video), 30)
                await asyncio.sleep(SETTLE_S)
                processes = Processes(server.pid)
                cpu, began = processes.cpu_s(), time.monotonic()
                await asyncio.sleep(options.seconds)
                elapsed = time.monotonic() - began
                used = {name: value - cpu[name] for name, value in processes.cpu_s().items()}
                rss = processes.rss_mb()
                figures = _figures(caller, microphone, camera, places, began, elapsed)
                status = (await client.get("/v1/status")).json()
    finally:
        server.terminate()
        await server.wait()
    return {
        "mode": options.mode,
        "aiortc": "stock" if options.stock else "patched",
        "machine": {
            "cpu": cpu_name(),
            "cores": os.cpu_count(),
            "python": platform.python_version(),
        },
        "engine": status["engine"],
        "server_start_s": round(start_s, 2),
        "cpu_percent_of_one_core": {
            name: round(100 * value / elapsed, 1) for name, value in used.items()
        },
        "rss_mb": rss,
        **figures,
    }


async def _source(
    client: httpx.AsyncClient, options: argparse.Namespace
) -> tuple[Camera | None, dict[str, Any]]:
    """The camera, if the mode has one, and the query of the call."""
    if options.mode == "live":
        pictures = clip_pictures(options.camera)
        return Camera(lambda number: pictures[number % len(pictures)]), {"mode": "live"}
    avatars = (await client.get("/v1/avatars")).json()["avatars"]
    if not avatars:
        raise RuntimeError("expected at least one avatar, the server has none")
    return None, {"mode": "avatar", "avatar": options.avatar or avatars[0]["name"]}


def _figures(
    caller: RecordedCall,
    microphone: Microphone,
    camera: Camera | None,
    places: list[int],
    began: float,
    elapsed: float,
) -> dict[str, Any]:
    received = caller.received
    assert microphone.began is not None
    sound_ms, offset = _click_delays(received, microphone, places, began)
    video = [
        (entry, media_us)
        for entry, media_us in zip(received.video, received.video_us, strict=True)
        if began <= entry[0] <= began + elapsed
    ]
    if camera is not None:
        video_ms = [
            1000 * (arrival - camera.taken[mark])
            for (arrival, _, mark, *_), _ in video
            if mark in camera.taken
        ]
    else:
        video_ms = [
            1000 * (arrival - (media_us / US_PER_S - offset))
            for (arrival, *_), media_us in video
            if media_us is not None and offset is not None
        ]
    skew = None
    if sound_ms and video_ms:
        skew = round(float(np.median(video_ms) - np.median(sound_ms)), 1)
    stats = received.of_type(Stats)
    gaps = np.diff([arrival for (arrival, *_), _ in video])
    return {
        "time_to_first_frame_ms": round(1000 * (received.video[0][0] - caller.call.called_at), 1),
        "time_to_first_synced_frame_ms": _first_synced(stats),
        "video_latency_ms": asdict(Spread.of(video_ms)),
        "sound_latency_ms": asdict(Spread.of(sound_ms)),
        "video_minus_sound_ms": skew,
        "fps": round(len(video) / elapsed, 2),
        "longest_gap_ms": round(1000 * float(gaps.max()), 1) if len(gaps) else None,
        "last_stats": asdict(stats[-1]) if stats else None,
    }


def _click_delays(
    received: Received, microphone: Microphone, places: list[int], began: float
) -> tuple[list[float], float | None]:
    """Delays of the clicks in ms, and the media time of the monotonic clock's zero, in s."""
    assert microphone.began is not None
    heard = [
        (arrival, media_us, place)
        for (arrival, _, peak, place), media_us in zip(
            received.sound, received.sound_us, strict=True
        )
        if peak > HEARD_PEAK
    ]
    delays, offsets = [], []
    for place in places:
        captured = microphone.began + place / SOUND_HZ
        # A block can be played when it has arrived; the click lies `at` samples into it.
        later = [
            (arrival, media_us, at)
            for arrival, media_us, at in heard
            if 0 < arrival - captured < CLICK_EVERY / SOUND_HZ
        ]
        if not later or captured < began:
            continue
        arrival, media_us, at = later[0]
        delays.append(1000 * (arrival + at / SOUND_HZ - captured))
        if media_us is not None:
            offsets.append(media_us / US_PER_S + at / SOUND_HZ - captured)
    return delays, float(np.median(offsets)) if offsets else None


def _first_synced(stats: list[Stats]) -> float | None:
    """Upper bound from the figures that come once a second."""
    for index, message in enumerate(stats):
        if message.synced > 0:
            return round(1000.0 * (index + 1), 0)
    return None


def report_of(figures: dict[str, Any], arguments: Sequence[str]) -> Report:
    """The page of one call's figures."""
    delays = {
        "voice to lips": figures["video_latency_ms"],
        "sound": figures["sound_latency_ms"],
    }
    shown = {name: spread for name, spread in delays.items() if spread["count"]}
    rows = [
        (name, spread["p50"], spread["p95"], spread["worst"], spread["count"])
        for name, spread in delays.items()
    ]
    flat = [
        ("first picture, ms", figures["time_to_first_frame_ms"]),
        ("first synced picture, ms (once a second)", figures["time_to_first_synced_frame_ms"]),
        ("picture minus sound at the receiver, ms", figures["video_minus_sound_ms"]),
        ("frames a second", figures["fps"]),
        ("longest gap between pictures, ms", figures["longest_gap_ms"]),
        ("server start, s", figures["server_start_s"]),
        *((f"{name}, % of one core", v) for name, v in figures["cpu_percent_of_one_core"].items()),
        *((f"{name}, MB", v) for name, v in figures["rss_mb"].items()),
    ]
    bars = BarPlot(
        "Delay from capture to arrival",
        "ms",
        list(shown),
        {name: [spread[name] for spread in shown.values()] for name in ("p50", "p95", "worst")},
    )
    stats = sorted((figures["last_stats"] or {}).items())
    last = [(key, value) for key, value in stats if isinstance(value, int | float)]
    return Report(
        "Glass to glass",
        here("lipwire bench latency", arguments),
        [
            Section(
                "Delays",
                "From a sound's or picture's capture to its arrival at a peer on this machine: "
                "no network, no jitter buffer.",
                [Table(("", "p50 ms", "p95 ms", "worst ms", "count"), rows), bars],
            ),
            Section("The call", blocks=[Table(("", ""), flat)]),
            Section("The server's last figures", blocks=[Table(("", ""), last)]),
        ],
        f"Mode {figures['mode']}, aiortc {figures['aiortc']}.",
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the benchmark; the exit status."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    parser = argparse.ArgumentParser(
        prog="lipwire bench latency",
        description="Call a server over WebRTC and time sound and pictures, glass to glass.",
        epilog="example:\n  lipwire bench latency --avatar anna --seconds 60 --out report",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--mode", choices=["avatar", "live"], default="avatar")
    parser.add_argument("--avatar", help="name of the avatar (the first)")
    parser.add_argument("--avatars", action="append", type=Path, default=[], help="more avatars")
    parser.add_argument("--camera", type=Path, help="a clip for the camera in live mode")
    parser.add_argument("--speech", type=Path, help="a sound file (syllables of noise)")
    parser.add_argument("--seconds", type=float, default=20.0, help="measured time (20)")
    parser.add_argument("--model", default="bundled")
    parser.add_argument("--backend", default="auto")
    parser.add_argument("--stock", action="store_true", help="both ends run aiortc as it comes")
    parser.add_argument("--json", type=Path, help="write the figures to a file")
    parser.add_argument("--out", type=Path, help="write latency.json and latency.html here")
    options = parser.parse_args(given)
    if options.mode == "live" and options.camera is None:
        parser.error("live mode needs --camera CLIP, an avatar's clip.mp4 for one")
    figures = asyncio.run(measure(options))
    text = json.dumps(figures, indent=2)
    if options.json is not None:
        options.json.write_text(text + "\n", encoding="utf-8")
    if options.out is not None:
        write_report(options.out, "latency", figures, report_of(figures, given))
    sys.stdout.write(text + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
