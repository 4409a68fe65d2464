"""Starts of the whole server: with kept plans, waiting for plans, serving while they are built.

    starts = await measure_starts("bundled", repeats=3)

Every start is `lipwire serve` in a process of its own. A start that serves meanwhile has a call
over WebRTC from the moment it is ready, so that there is a session to be moved.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import httpx
import numpy as np

from benchmarks.server_watch import CLOCK_TICKS
from server.client.capture import I16
from server.client.webrtc_call import open_call

Kind = Literal["kept", "wait", "background"]
KINDS: tuple[Kind, ...] = ("kept", "wait", "background")
START_TIMEOUT_S = 3600.0  # a build of low priority on a busy machine
SOUND_HZ = 48_000
SWITCHED, MOVED = "at the next hops", "sessions moved to"


@dataclass(frozen=True, slots=True)
class Moment:
    """When something happened.

    Attributes:
        wall_s: since the start.
        cpu_s: processor time of all of the server's processes by then, builders included.
    """

    wall_s: float
    cpu_s: float


@dataclass(frozen=True, slots=True)
class ServerStart:
    """One start.

    Attributes:
        ready: calls are taken.
        backend: that it was ready on.
        answered_s: until `/readyz` was answered for the first time, with whatever.
        waited_for: what it then and later said that it waits for, without the seconds.
        switched: a better backend took over; None: none was awaited.
        moved: the call that was there made its first hop on it.
        backend_after: that it then ran on.
    """

    ready: Moment
    backend: str
    answered_s: float | None
    waited_for: list[str]
    switched: Moment | None = None
    moved: Moment | None = None
    backend_after: str | None = None


class StartingServer:
    """A server from its first moment on.

    Attributes:
        began: `time.monotonic` of its first moment.
        log: lines that it wrote, with when.
        address: once it is ready.
    """

    def __init__(self, process: asyncio.subprocess.Process, port: int) -> None:
        self.log: list[tuple[Moment, str]] = []
        self.address = f"http://localhost:{port}"
        self._process = process
        self.began = time.monotonic()
        self._changed = asyncio.Event()

    async def read(self, stream: asyncio.StreamReader) -> None:
        """Reads a stream of the process to its end."""
        while line := (await stream.readline()).decode(errors="replace").rstrip():
            self.log.append((self.moment(), line))
            self._changed.set()

    def moment(self) -> Moment:
        """Now."""
        return Moment(
            round(time.monotonic() - self.began, 2), round(_family_cpu_s(self._process.pid), 2)
        )

    async def until(self, told: str) -> Moment:
        """When a line with these words came.

        Raises:
            RuntimeError: the server ended first.
        """
        async with asyncio.timeout(START_TIMEOUT_S):
            while True:
                for moment, line in self.log:
                    if told in line:
                        return moment
                if self._process.returncode is not None:
                    raise RuntimeError("\n".join(line for _, line in self.log[-5:]))
                self._changed.clear()
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._changed.wait(), 1.0)


@asynccontextmanager
async def starting_server(arguments: list[str], port: int) -> AsyncIterator[StartingServer]:
    """`lipwire serve` for the time of a `with` block."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "server", "serve", "--port", str(port), *arguments,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout is not None and process.stderr is not None
    server = StartingServer(process, port)
    reading = [
        asyncio.create_task(server.read(stream)) for stream in (process.stdout, process.stderr)
    ]
    try:
        yield server
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()
        await asyncio.gather(*reading)


async def measure_start(model: str, kind: Kind, plans: Path, port: int) -> ServerStart:
    """One start.

    Args:
        plans: holds all plans where they are to be kept, else nothing.
    """
    arguments = ["--model", model, "--plans-dir", str(plans)]
    if kind != "kept":
        arguments += ["--plans", kind]
    async with starting_server(arguments, port) as server, httpx.AsyncClient() as http:
        probe = Probe(server, http)
        probing = asyncio.create_task(probe.run())
        ready = await server.until("is ready:")
        probing.cancel()
        await asyncio.gather(probing, return_exceptions=True)
        backend = await _backend(server.address, http)
        start = ServerStart(ready, backend, probe.answered_s, probe.waited_for)
        if kind != "background":
            return start
        avatars = (await http.get(f"{server.address}/v1/avatars")).json()["avatars"]
        async with open_call(server.address, avatar=avatars[0]["name"], http=http) as call:
            speaking = asyncio.create_task(_babble(call.say))
            reading = asyncio.create_task(_read(call.__aiter__))
            switched = await server.until(SWITCHED)
            moved = await server.until(MOVED)
            for task in (speaking, reading):
                task.cancel()
            await asyncio.gather(speaking, reading, return_exceptions=True)
        after = await _backend(server.address, http)
        return ServerStart(
            ready, backend, probe.answered_s, probe.waited_for, switched, moved, after
        )


async def measure_starts(model: str, repeats: int, port: int) -> dict[Kind, list[ServerStart]]:
    """Starts by kind, taken in turn."""
    starts: dict[Kind, list[ServerStart]] = {kind: [] for kind in KINDS}
    with tempfile.TemporaryDirectory() as kept:
        for _ in range(repeats):
            for kind in ("wait", "kept", "background"):
                with tempfile.TemporaryDirectory() as empty:
                    # The first one that waits fills the folder that the kept ones load from.
                    fills = kind == "wait" and not any(Path(kept).iterdir())
                    plans = Path(kept if kind == "kept" or fills else empty)
                    starts[kind].append(await measure_start(model, kind, plans, port))
    return starts


class Probe:
    """Asks `/readyz` as an orchestrator does, from the first moment on.

    Attributes:
        answered_s: until the first answer.
        waited_for: what the server said that it waits for, each once, without the seconds.
    """

    def __init__(self, server: StartingServer, http: httpx.AsyncClient) -> None:
        self.answered_s: float | None = None
        self.waited_for: list[str] = []
        self._server, self._http = server, http

    async def run(self) -> None:
        """Asks until it is cancelled."""
        while True:
            with suppress(httpx.TransportError):
                answer = (await self._http.get(f"{self._server.address}/readyz")).json()
                self.answered_s = self.answered_s or self._server.moment().wall_s
                told = answer.get("detail", "").partition(",")[0]
                if answer["status"] == "starting" and told not in self.waited_for:
                    self.waited_for.append(told)
            await asyncio.sleep(0.1)


async def _babble(say: Callable[[I16], Awaitable[bool]]) -> None:
    """Says noise in syllables until it is cancelled."""
    syllables = np.abs(np.sin(np.arange(SOUND_HZ) / SOUND_HZ * np.pi * 4))
    noise = np.random.default_rng(0).standard_normal(SOUND_HZ)
    while True:
        await say((noise * 2500 * syllables).astype(np.int16))


async def _read(events: Callable[[], AsyncIterator[object]]) -> None:
    async for _ in events():
        pass


async def _backend(address: str, http: httpx.AsyncClient) -> str:
    status = (await http.get(f"{address}/v1/status")).json()
    return str(status["engine"]["backend"])


def _family_cpu_s(pid: int) -> float:
    """Processor time so far of a process, its children and theirs, those that ended included."""
    total = 0.0
    with suppress(OSError):
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
        total += sum(int(ticks) for ticks in fields[11:15]) / CLOCK_TICKS
        for task in Path(f"/proc/{pid}/task").iterdir():
            for child in (task / "children").read_text().split():
                total += _family_cpu_s(int(child))
    return total
