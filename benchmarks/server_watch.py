"""A server under observation: started as its user starts it, with its books read from outside.

async with watched_server(["--max-sessions", "3"], folder) as server:
    reading = await server.read()
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import sys
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

START_TIMEOUT_S = 180.0
TELL_TIMEOUT_S = 60.0  # a snapshot of traced allocations takes seconds
CLOCK_TICKS = os.sysconf("SC_CLK_TCK")
_SAMPLE = re.compile(r"^(lipwire_\w+)(\{[^}]*\})? ([-+.\deE]+)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class ProcessReading:
    """What the kernel says of one process.

    Attributes:
        rss_mb, pss_mb: resident memory, and with shared pages divided among those who share them.
        anonymous_mb: of it what is no file and no shared memory: heaps and stacks.
        cpu_s: processor time so far.
    """

    rss_mb: float
    pss_mb: float
    anonymous_mb: float
    descriptors: int
    threads: int
    cpu_s: float

    @classmethod
    def of(cls, pid: int) -> ProcessReading:
        """The process's figures now.

        Raises:
            OSError: there is no such process any more.
        """
        folder = Path(f"/proc/{pid}")
        kb = {
            line.split(":")[0]: int(line.split()[1])
            for line in (folder / "smaps_rollup").read_text(encoding="ascii").splitlines()[1:]
        }
        fields = (folder / "stat").read_text(encoding="utf-8").rsplit(")", 1)[1].split()
        return cls(
            rss_mb=round(kb["Rss"] / 1024, 2),
            pss_mb=round(kb["Pss"] / 1024, 2),
            anonymous_mb=round(kb["Anonymous"] / 1024, 2),
            descriptors=len(list((folder / "fd").iterdir())),
            threads=len(list((folder / "task").iterdir())),
            cpu_s=round((int(fields[11]) + int(fields[12])) / CLOCK_TICKS, 2),
        )


class WatchedServer:
    """A running server.

    Attributes:
        address: such as http://localhost:8080.
        pid: of the gateway.
        log: what it wrote to standard error.
    """

    def __init__(self, process: asyncio.subprocess.Process, address: str, folder: Path) -> None:
        self.address = address
        self.pid = process.pid
        self.log = folder / "server.log"
        self._told = folder / "held.json"
        self._process = process

    def engine_pid(self) -> int | None:
        """The gateway's child that runs the engine; None while it is being replaced."""
        children = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()
        for child in children:
            if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes():
                return int(child)
        return None

    def shared_memory_mb(self) -> float:
        """Pictures between gateway and engine."""
        blocks = Path("/dev/shm").glob(f"lipwire-{self.pid}-*")
        return round(sum(block.stat().st_size for block in blocks) / 2**20, 2)

    async def held(self, *, by_type: bool = False) -> dict[str, Any]:
        """What the gateway says of itself, see `observed_server`.

        Raises:
            TimeoutError: its event loop does not come to answer.
        """
        self._told.unlink(missing_ok=True)
        os.kill(self.pid, signal.SIGUSR2 if by_type else signal.SIGUSR1)
        async with asyncio.timeout(TELL_TIMEOUT_S):
            while not self._told.exists():
                await asyncio.sleep(0.02)
        found: dict[str, Any] = json.loads(self._told.read_text(encoding="utf-8"))
        return found

    async def metrics(self, client: httpx.AsyncClient) -> dict[str, float]:
        """Every sample at `/metrics`, by name and labels."""
        return await read_metrics(client, self.address)

    def complaints(self) -> list[str]:
        """Lines of its log."""
        return self.log.read_text(encoding="utf-8", errors="replace").splitlines()

    def kinds_of_complaints(self) -> Counter[str]:
        """Its warnings and errors without what is another each time: date, session, numbers.

        No tracebacks: they name folders.
        """
        return Counter(
            " ".join(word for word in line.split() if not any(c.isdigit() for c in word))[:120]
            for line in self.complaints()
            if " ERROR " in line or " WARNING " in line
        )


async def read_metrics(client: httpx.AsyncClient, address: str) -> dict[str, float]:
    """Every sample at a server's `/metrics`, by name and labels."""
    text = (await client.get(f"{address}/metrics")).text
    return {name + labels: float(value) for name, labels, value in _SAMPLE.findall(text)}


@asynccontextmanager
async def watched_server(arguments: Sequence[str], folder: Path) -> AsyncIterator[WatchedServer]:
    """A server on a free port for the time of a `with` block.

    Args:
        arguments: of `lipwire serve`.
        folder: takes its log and what it says of itself.

    Raises:
        RuntimeError: it ended before it was ready.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "server.log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "benchmarks.observed_server", str(folder / "held.json"),
            "serve", "--port", "0", *arguments,
            stdout=asyncio.subprocess.PIPE, stderr=log,
        )  # fmt: skip
    try:
        yield WatchedServer(process, await _address(process), folder)
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGINT)
        await process.wait()


async def _address(process: asyncio.subprocess.Process) -> str:
    assert process.stdout is not None
    async with asyncio.timeout(START_TIMEOUT_S):
        while line := (await process.stdout.readline()).decode():
            if "is ready" in line:
                return line.rsplit(" ", 1)[1].strip()
    raise RuntimeError("the server ended before it was ready; its log says why")
