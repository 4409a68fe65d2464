"""What a call sees and hears when a better backend takes over in it.

    python -m benchmarks.backend_switch --json benchmarks/results/backend_switch.json \\
        --plot docs/img/backend-switch.png

Two parts. The **pictures**: streams that change between onnxruntime and OpenVINO and back, held
against streams that never change (`benchmarks.switch_pictures`). The **call**: a server starts
without plans, serves on onnxruntime, and has a call over WebRTC when OpenVINO takes over; what
arrives around that moment is held against what arrived before the plan was there.
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
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from benchmarks.caller import BLOCK_SAMPLES, FPS, SOUND_HZ, Received, recorded_call
from benchmarks.quality.material import load_speeches
from benchmarks.report import here
from benchmarks.server_starts import MOVED, SWITCHED, starting_server
from benchmarks.switch_pictures import Switches, draw_switches
from server.client.capture import I16, Microphone
from server.media.av_frames import VIDEO_CLOCK_HZ
from server.protocol import Stats
from server.webrtc import aiortc_overrides

AROUND_S = 2.0  # before and after the switch
FIRST_S = 30.0  # for the first picture, on a machine that builds a plan
SETTLE_S = 4.0  # a call's first delay is found by then
WITHOUT_S = 6.0  # after the switch: the same once more, with no build beside it
SPOKEN_S = 300.0


@dataclass(frozen=True, slots=True)
class Stretch:
    """What arrived in a part of the call.

    Attributes:
        seconds: its length.
        pictures: that arrived.
        missing_pictures: places of the picture clock between the first and the last that stayed
            empty.
        longest_gap_ms: between two pictures' arrivals.
        late_hops, missing_frames, dropped_frames: what the server counted.
        lost_sound_ms: places of the sound clock that stayed empty.
        longest_sound_gap_ms: between two arrivals of 20 ms of sound.
    """

    seconds: float
    pictures: int
    missing_pictures: int
    longest_gap_ms: float
    late_hops: int
    missing_frames: int
    dropped_frames: int
    lost_sound_ms: int
    longest_sound_gap_ms: float


def stretch(received: Received, began: float, ended: float, counts: Sequence[Stats]) -> Stretch:
    """What arrived between two moments of the monotonic clock.

    Args:
        counts: the server's figures before it and after it.
    """
    video = [(at, pts) for at, pts, *_ in received.video if began <= at < ended]
    sound = [(at, pts) for at, pts, *_ in received.sound if began <= at < ended]
    pictures, blocks = np.array(video, float), np.array(sound, float)
    frame_ticks = VIDEO_CLOCK_HZ // FPS
    places = (pictures[-1, 1] - pictures[0, 1]) / frame_ticks + 1
    sound_places = (blocks[-1, 1] - blocks[0, 1]) / BLOCK_SAMPLES + 1
    before, after = counts
    return Stretch(
        seconds=round(ended - began, 1),
        pictures=len(video),
        missing_pictures=round(places) - len(video),
        longest_gap_ms=round(1000 * float(np.diff(pictures[:, 0]).max()), 1),
        late_hops=after.late_hops - before.late_hops,
        missing_frames=after.missing_frames - before.missing_frames,
        dropped_frames=after.dropped_frames - before.dropped_frames,
        lost_sound_ms=round((round(sound_places) - len(sound)) * 1000 * BLOCK_SAMPLES / SOUND_HZ),
        longest_sound_gap_ms=round(1000 * float(np.diff(blocks[:, 0]).max()), 1),
    )


async def measure_call(port: int, avatar: str, model: str = "bundled") -> dict[str, Any]:
    """One call over a switch: what happened when, and what arrived before, around and after it."""
    aiortc_overrides.apply()
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as plans:
        arguments = ["--model", model, "--plans", "background", "--plans-dir", plans]
        async with starting_server(arguments, port) as server, httpx.AsyncClient() as http:
            await server.until("is ready:")
            microphone = Microphone(_spoken())
            async with recorded_call(
                server.address, avatar=avatar, sound=microphone, http=http
            ) as caller:
                await caller.until(lambda got: bool(got.video and got.sound), FIRST_S)
                begin = time.monotonic()
                switched = server.began + (await server.until(SWITCHED)).wall_s
                moved = server.began + (await server.until(MOVED)).wall_s
                end = moved + AROUND_S + WITHOUT_S
                await asyncio.sleep(end - time.monotonic() + 1.5)  # the figures of its last second
                received, figures = caller.received, caller.received.of_type(Stats)
    edges = {
        "before": (begin + SETTLE_S, switched - AROUND_S),
        "around": (switched - AROUND_S, moved + AROUND_S),
        "after": (moved + AROUND_S, end),
    }
    told = _told_at(received, figures)
    return {
        "load_before": round(load, 1),
        "backends": sorted({item.backend for item in figures}),
        "ready_to_switch_s": round(switched - begin, 1),
        "switch_to_moved_ms": round(1000 * (moved - switched), 1),
        "stretches": {
            name: asdict(
                stretch(received, first, last, (_latest(told, first), _latest(told, last + 1.2)))
            )
            for name, (first, last) in edges.items()
            if last - first > 1.0
        },
    }


def _told_at(received: Received, figures: Sequence[Stats]) -> list[tuple[float, Stats]]:
    """The server's figures with about when they came: once a second to the call's end."""
    last = received.video[-1][0]
    return [(last - (len(figures) - 1 - index), item) for index, item in enumerate(figures)]


def _latest(told: Sequence[tuple[float, Stats]], at: float) -> Stats:
    before = [item for when, item in told if when <= at]
    return before[-1] if before else told[0][1]


def _spoken() -> I16:
    """Speech for long enough, int16 [n] at 48 kHz."""
    samples = np.concatenate([speech.samples for speech in load_speeches()])
    wide = np.repeat(np.resize(samples, int(SPOKEN_S * SOUND_HZ / 3)), 3)
    return (wide * 32767).astype(np.int16)


def summary(switches: Switches) -> dict[str, Any]:
    """The figures of one row of pictures."""
    at = np.array(switches.places) - 1
    steps = switches.steps(switches.switched)
    others = np.delete(steps, at)
    psnr = switches.psnr_db()
    worst = min(psnr[place] for place in switches.places)
    return {
        "backends": switches.names,
        "pictures": len(switches.switched),
        "switches": len(switches.places),
        "mouth_px": list(switches.first.shape[1:]),
        "step_levels": {
            "at_switches": _spread(steps[at]),
            "elsewhere": _spread(others),
            "at_the_same_places_on_one_backend": _spread(switches.steps(switches.first)[at]),
        },
        "excess_levels": _spread(switches.excess()),
        "psnr_db": {"lowest": _rounded(psnr.min()), "lowest_first_after_switch": _rounded(worst)},
        "worst_pixel_levels": switches.worst_levels(),
        "backends_apart_levels": _rounded(
            np.abs(switches.first.astype(np.int16) - switches.second).mean()
        ),
    }


def plot(switches: Switches, path: Path) -> None:
    """Draws how much the mouth changes from picture to picture, with and without changes."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    figure, (above, below) = pyplot.subplots(
        2, 1, figsize=(9, 5), sharex=True, height_ratios=(2, 1)
    )
    frames = np.arange(1, len(switches.first))
    above.plot(
        frames,
        switches.steps(switches.first),
        label=f"{switches.names[0]} throughout",
        lw=2.5,
        color="#b9c4ce",
    )
    above.plot(frames, switches.steps(switches.switched), label="changing", lw=1.0, color="#c0392b")
    below.plot(
        frames,
        switches.steps(switches.switched) - switches.steps(switches.first),
        lw=1.0,
        color="#c0392b",
    )
    for axes in (above, below):
        for place in switches.places:
            axes.axvline(place, lw=0.7, ls=":", color="#2c3e50")
    above.set_ylabel("mouth's change, levels")
    above.legend(loc="upper right")
    below.set_ylabel("difference")
    below.set_xlabel("picture; dotted: the backend changes")
    figure.tight_layout()
    figure.savefig(path, dpi=110)


def _spread(values: Any) -> dict[str, float]:
    return {
        "mean": _rounded(np.mean(values)),
        "largest": _rounded(np.max(values)),
        "count": len(values),
    }


def _rounded(value: Any) -> float:
    return round(float(value), 4)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures, prints and writes."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.backend_switch",
        description=(__doc__ or "").split("\n\n")[0],
        epilog="example: python -m benchmarks.backend_switch --seconds 6 --no-call",
    )
    parser.add_argument("--model", default="bundled", help="name or folder, causal, with graphs")
    parser.add_argument("--avatar", default="anna")
    parser.add_argument("--seconds", type=float, default=26.0, help="of each stream of pictures")
    parser.add_argument("--every", type=int, default=20, help="hops between two changes")
    parser.add_argument("--hops", type=int, nargs="+", default=[1, 4], help="lengths of hops")
    parser.add_argument("--no-call", action="store_true", help="the pictures alone")
    parser.add_argument("--no-pictures", action="store_true", help="the call alone")
    parser.add_argument("--port", type=int, default=8090, help="of the server")
    parser.add_argument("--json", type=Path, help="write the figures here")
    parser.add_argument("--plot", type=Path, help="draw the pictures' changes here, PNG")
    given = parser.parse_args(arguments)
    report: dict[str, Any] = {}
    if not given.no_pictures:
        report["pictures"] = {}
        for hop in given.hops:
            switches = draw_switches(
                given.avatar,
                seconds=given.seconds,
                every=given.every,
                hop_frames=hop,
                model=given.model,
            )
            report["pictures"][f"hop_{hop}"] = summary(switches)
            if given.plot is not None and hop == given.hops[0]:
                plot(switches, given.plot)
    if not given.no_call:
        report["call"] = asyncio.run(measure_call(given.port, given.avatar, given.model))
    sys.stdout.write(json.dumps(report, indent=2) + "\n")
    if given.json is not None:
        about = here("python -m benchmarks.backend_switch", arguments or sys.argv[1:]).to_dict()
        given.json.write_text(
            json.dumps({"circumstances": about, **report}, indent=2) + "\n", encoding="utf-8"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
