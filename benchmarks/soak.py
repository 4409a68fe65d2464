"""A server left running: does anything grow?

    python -m benchmarks.soak --minutes 80 --out report

A server with its model is called all the time: one long call after another (five minutes each, of
WebSocket and WebRTC, of avatar and live in turn, with interrupts, and resumed every minute), a
second place for short calls that end in six ways, and wrong offers, packets and requests every ten
seconds. Every ten seconds the memory, descriptors, threads, tasks and shared memory of the server
are read. After a warm-up of one round of the four long calls each figure must be flat; the verdict
and every reading are written as JSON, and drawn.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import cv2
import httpx
import numpy as np

from benchmarks.latency import clip_pictures, speech_with_clicks
from benchmarks.memory_trend import Trend, trend
from benchmarks.report import here
from benchmarks.server_watch import ProcessReading, WatchedServer, watched_server
from benchmarks.soak_calls import Callers, Material
from server.config import BUNDLED_AVATARS
from server.webrtc import aiortc_overrides

EVERY_S = 10.0
BLOCK_S = 240.0
LONG_CALL_S = 300.0
KINDS_OF_LONG_CALLS = 4
SPEECH_S = 60.0
CAMERA_PICTURES = 50
JPEG_QUALITY = 80
PLACES = 4  # the long call, the short one, one that vanished and is not missed yet, trouble
# What may grow by so much an hour is called flat: 1 % of a gateway of 170 MB. PSS is read but not
# judged: it rises when others that map the same libraries end.
TOLERANCES_PER_HOUR = {
    "gateway.rss_mb": 2.0, "gateway.anonymous_mb": 2.0,
    "engine.rss_mb": 2.0, "engine.anonymous_mb": 2.0,
    "allocator.used": 1.0, "objects": 1000, "tasks": 0.5, "shared_memory_mb": 1.0,
    "gateway.descriptors": 0.5, "gateway.threads": 0.5,
    "engine.descriptors": 0.5, "engine.threads": 0.5,
}  # fmt: skip


async def read(server: WatchedServer, client: httpx.AsyncClient, since: float) -> dict[str, Any]:
    """One reading of everything, flat: name -> number."""
    reading: dict[str, Any] = {"seconds": round(time.monotonic() - since, 1)}
    pids = {"gateway": server.pid, "engine": server.engine_pid()}
    for name, pid in pids.items():
        if pid is not None:
            figures = asdict(ProcessReading.of(pid))
            reading |= {f"{name}.{key}": value for key, value in figures.items()}
    held = await server.held()
    reading |= {"objects": held["objects"], "tasks": held["tasks"]}
    reading |= {f"allocator.{key}": value for key, value in (held["allocator"] or {}).items()}
    reading["shared_memory_mb"] = server.shared_memory_mb()
    metrics = await server.metrics(client)
    reading["calls"] = metrics["lipwire_sessions"]
    reading["late_hops"] = metrics["lipwire_late_hops_total"]
    reading["engine_restarts"] = metrics["lipwire_engine_restarts_total"]
    reading["load"] = round(os.getloadavg()[0], 1)
    return reading


def trends_of(readings: Sequence[dict[str, Any]], warm_up_s: float) -> dict[str, Trend]:
    """The trend of each figure that has a tolerance."""
    found = {}
    for name in TOLERANCES_PER_HOUR:
        rows = [(r["seconds"], r[name]) for r in readings if r.get(name) is not None]
        made = trend([s for s, _ in rows], [v for _, v in rows], BLOCK_S, warm_up_s)
        if made is not None:
            found[name] = made
    return found


async def measure(options: argparse.Namespace) -> dict[str, Any]:
    """The figures of one soak; they are also written to `options.out` after every reading."""
    aiortc_overrides.apply()
    arguments = ["--backend", options.backend, "--no-calibration", "--log-level", "warning"]
    arguments += ["--max-sessions", str(PLACES)]
    pictures = clip_pictures(BUNDLED_AVATARS / options.avatar / "clip.mp4")[:CAMERA_PICTURES]
    material = Material(
        speech_with_clicks(SPEECH_S, None)[0], pictures, [_jpeg(picture) for picture in pictures]
    )
    readings: list[dict[str, Any]] = []
    skews: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        async with (
            watched_server(arguments, Path(folder)) as server,
            httpx.AsyncClient(base_url=server.address, timeout=60) as client,
        ):
            callers = Callers(server.address, client, options.avatar, material, options.seed)
            work = [
                asyncio.create_task(callers.make_long_calls(options.long_call_s)),
                asyncio.create_task(callers.make_short_calls(options.pause_s)),
                asyncio.create_task(callers.make_trouble(EVERY_S)),
            ]
            began = time.monotonic()
            types: dict[str, dict[str, int]] = {}
            while (passed := time.monotonic() - began) < 60 * options.minutes:
                await asyncio.sleep(EVERY_S)
                readings.append(await read(server, client, began))
                skews += callers.doings.skews_ms
                callers.doings.skews_ms.clear()
                if not types and passed >= options.warm_up_s:
                    types["after the warm-up"] = (await server.held(by_type=True))["types"]
                if options.out is not None:
                    _save(options.out / "soak-readings.json", readings)
                for task in work:
                    if task.done():
                        task.result()
            types["at the end"] = (await server.held(by_type=True))["types"]
            for task in work:
                task.cancel()
            await asyncio.gather(*work, return_exceptions=True)
            metrics = await server.metrics(client)
            complaints = server.kinds_of_complaints()
    trends = trends_of(readings, options.warm_up_s)
    grown = [n for n, t in trends.items() if t.grows(TOLERANCES_PER_HOUR[n])]
    return {
        "minutes": options.minutes,
        "warm_up_minutes": round(options.warm_up_s / 60, 1),
        "verdict": f"grows: {', '.join(grown)}" if grown else "flat",
        "per_hour": {name: asdict(found) for name, found in trends.items()},
        "done": dict(sorted(callers.doings.counts.items())),
        "failed": dict(callers.doings.failures.most_common()),
        "ended": {n: v for n, v in metrics.items() if n.startswith("lipwire_sessions_ended_total")},
        "late_hops": metrics["lipwire_late_hops_total"],
        "frames": {n: v for n, v in metrics.items() if n.startswith("lipwire_frames_total")},
        "picture_minus_sound_ms": _spread(skews),
        "engine_restarts": readings[-1]["engine_restarts"],
        "log": dict(complaints.most_common(20)),
        "objects_that_grew": _growth(types),
        "readings": readings,
    }


def _jpeg(i420: np.ndarray) -> bytes:
    bgr = cv2.cvtColor(i420, cv2.COLOR_YUV2BGR_I420)
    return bytes(cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])[1])


def _spread(values: Sequence[float]) -> dict[str, float] | None:
    if not values:
        return None
    low, middle, high = np.percentile(values, (1, 50, 99))
    return {"p1": round(low, 1), "p50": round(middle, 1), "p99": round(high, 1)}


def _growth(types: dict[str, dict[str, int]]) -> dict[str, int]:
    """Types of which there are more at the end than after the warm-up."""
    before, after = types.get("after the warm-up"), types["at the end"]
    if before is None:
        return {}
    more = Counter({name: after[name] - before.get(name, after[name]) for name in after})
    return {name: count for name, count in more.most_common(12) if count > 0}


def _save(path: Path, content: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_suffix(".part")
    draft.write_text(json.dumps(content) + "\n", encoding="utf-8")
    draft.replace(path)


def draw(figures: dict[str, Any], path: Path) -> None:
    """Memory, descriptors, threads and tasks over the hours, as a PNG."""
    from matplotlib.figure import Figure

    readings = figures["readings"]
    minutes = [reading["seconds"] / 60 for reading in readings]
    panels = (
        ("memory, MB (anonymous)", ("gateway.anonymous_mb", "engine.anonymous_mb")),
        ("the gateway's allocator, MB", ("allocator.used", "allocator.free")),
        ("descriptors, threads, tasks", ("gateway.descriptors", "gateway.threads", "tasks")),
        ("calls; shared memory, MB", ("calls", "shared_memory_mb")),
    )
    figure = Figure((9, 9), layout="constrained")
    for axes, (title, names) in zip(figure.subplots(len(panels), sharex=True), panels, strict=True):
        for name in names:
            values = [reading.get(name, float("nan")) for reading in readings]
            found = figures["per_hour"].get(name)
            told = "" if found is None else "  {per_hour:+} [{low}, {high}] an hour".format(**found)
            axes.plot(minutes, values, linewidth=0.8, label=name + told)
        axes.axvspan(0, figures["warm_up_minutes"], color="#8883", linewidth=0)
        axes.set_title(title, fontsize="small", loc="left")
        axes.legend(fontsize="x-small", loc="center right")
        axes.set_ylim(bottom=0)
    axes.set_xlabel("minutes; grey: warm-up")
    figure.savefig(path, dpi=110)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the benchmark; 1 where something grew."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    parser = argparse.ArgumentParser(prog="python -m benchmarks.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=80.0)
    parser.add_argument("--long-call-s", type=float, default=LONG_CALL_S)
    parser.add_argument("--pause-s", type=float, default=10.0, help="between short calls (10)")
    parser.add_argument("--warm-up-s", type=float, help="(four long calls)")
    parser.add_argument("--avatar", default="anna", help="a bundled one")
    parser.add_argument("--backend", default="auto")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="write soak.json and soak.png here")
    options = parser.parse_args(given)
    if options.warm_up_s is None:
        options.warm_up_s = KINDS_OF_LONG_CALLS * options.long_call_s
    circumstances = here("python -m benchmarks.soak", given).to_dict()
    figures = {**circumstances, **asyncio.run(measure(options))}
    if options.out is not None:
        _save(options.out / "soak.json", figures)
        draw(figures, options.out / "soak.png")
    del figures["readings"]
    sys.stdout.write(json.dumps(figures, indent=2) + "\n")
    return int(figures["verdict"] != "flat")


if __name__ == "__main__":
    sys.exit(main())
