"""What a flood of datagrams at one call's port does to another call, guarded and not.

    python -m benchmarks.media_flood --json media_flood.json

A server without a model holds two calls, each of a process of its own. One only listens: its
pictures and the server's processor time are measured. To the other's port go, in turn, nothing,
rubbish of a stranger, and RTP of its own peer, which has finished DTLS, at a steady rate. A flood
of the peer's ends its call, and the rest of its phase is what a flood of a dead call costs.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import os
import signal
import socket
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from itertools import pairwise
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Literal

from benchmarks.caller import recorded_call
from benchmarks.report import here
from benchmarks.server_watch import ProcessReading
from server.capacity.places import OwnPlaces
from server.client.webrtc_call import open_call
from server.config import Settings
from server.serving import serve
from server.webrtc.datagram_guard import DatagramGuard

Kind = Literal["nothing", "stranger", "peer"]
AVATAR = "anna"
DATAGRAM_BYTES = 400
STEP_S = 0.01
SETTLE_S = 2.0


def _serve(ready: Connection, guarded: bool) -> None:
    """The server's process."""
    if not guarded:
        DatagramGuard.admits = lambda *_, **__: True  # type: ignore[method-assign]
    OwnPlaces.note_late = lambda *_: None  # type: ignore[method-assign]  # two calls, however busy
    settings = Settings(
        backend="passthrough", port=0, calibrate=False, max_sessions=4, log_level="error"
    )
    serve(settings, ready.send)


def _rtp(number: int) -> bytes:
    """Sound of the peer's, as the server expects it but for what is in it."""
    header = (
        b"\x80\x60"
        + (number & 0xFFFF).to_bytes(2, "big")
        + (960 * number & 0xFFFFFFFF).to_bytes(4, "big")
    )
    return header + b"\x00\x00\x00\x07" + bytes(DATAGRAM_BYTES - 12)


def _flood(told: Connection, url: str, kind: Kind, per_s: int, seconds: float) -> None:
    """The other call's process: connects, waits for its cue, floods, tells how much it sent."""

    async def main() -> int:
        async with open_call(url, avatar=AVATAR) as call:
            transport = call.connection.rtc.getTransceivers()[0].receiver.transport
            ice = transport.transport.iceGatherer._connection
            address = ice._nominated[1].remote_addr
            told.send("connected")
            await asyncio.to_thread(told.recv)
            sent, began = 0, time.monotonic()
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
                while (now := time.monotonic() - began) < seconds:
                    while kind != "nothing" and sent < now * per_s:
                        if kind == "stranger":
                            stranger.sendto(_rtp(sent), address)
                        elif transport.state == "connected":
                            await transport._send_rtp(_rtp(sent))
                        else:
                            stranger.sendto(_rtp(sent), address)
                        sent += 1
                    await asyncio.sleep(STEP_S)
            return sent

    try:
        told.send(asyncio.run(main()))
    except Exception as error:  # noqa: BLE001 (the call may end before its flood does)
        told.send(repr(error))


async def _phase(
    url: str, pid: int, kind: Kind, options: argparse.Namespace
) -> dict[str, float | str | int]:
    """What the listener and the server's process show while the other call is flooded."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    flooding = context.Process(
        target=_flood, args=(theirs, url, kind, options.per_s, options.seconds), daemon=True
    )
    async with recorded_call(url, avatar=AVATAR) as listener:
        await listener.until(lambda got: len(got.video) > 10, 60)
        flooding.start()
        if (said := await asyncio.to_thread(ours.recv)) != "connected":
            raise RuntimeError(f"the other call did not begin: {said}")
        await asyncio.sleep(SETTLE_S)
        before, began = ProcessReading.of(pid), time.monotonic()
        ours.send("go")
        await asyncio.sleep(options.seconds)
        after, ended = ProcessReading.of(pid), time.monotonic()
        sent = await asyncio.to_thread(ours.recv)
        arrivals = [at for at, *_ in listener.received.video if began <= at <= ended]
    flooding.join(10)
    return {
        "flood": kind,
        "sent": sent,
        "pictures_per_s": round(len(arrivals) / (ended - began), 1),
        "longest_gap_ms": round(1000 * max((b - a for a, b in pairwise(arrivals)), default=0.0)),
        "server_cpu_share": round((after.cpu_s - before.cpu_s) / (ended - began), 2),
        "server_rss_mb": after.rss_mb,
    }


async def measure(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Every kind of flood, with the guard and without."""
    context = multiprocessing.get_context("spawn")
    found = []
    for guarded in (True, False):
        ours, theirs = context.Pipe()
        server = context.Process(target=_serve, args=(theirs, guarded))
        server.start()
        url = await asyncio.to_thread(ours.recv)
        assert server.pid is not None
        try:
            kinds: tuple[Kind, ...] = ("nothing", "stranger", "peer")
            for kind in kinds:
                phase = await _phase(url, server.pid, kind, options)
                found.append({"guard": guarded, **phase})
                sys.stderr.write(f"{found[-1]}\n")
        finally:
            os.kill(server.pid, signal.SIGINT)
            await asyncio.to_thread(server.join, 20)
            server.kill()
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the benchmark; the exit code."""
    given = sys.argv[1:] if arguments is None else list(arguments)
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--per-s", type=int, default=10_000, help="datagrams (10000)")
    parser.add_argument("--seconds", type=float, default=10.0, help="a phase (10)")
    parser.add_argument("--json", type=Path, help="also write the result here")
    options = parser.parse_args(given)
    circumstances = asdict(here("python -m benchmarks.media_flood", given))
    phases = asyncio.run(measure(options))
    circumstances["load_average"] = round(os.getloadavg()[1], 1)
    text = json.dumps({"circumstances": circumstances, "phases": phases}, indent=2)
    if options.json is not None:
        options.json.write_text(text + "\n", encoding="utf-8")
    sys.stdout.write(text + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
