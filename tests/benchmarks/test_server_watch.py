"""A server's books are read from outside and told from inside."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import httpx

from benchmarks.observed_server import allocator_mb, held
from benchmarks.server_watch import ProcessReading, watched_server


def test_a_process_is_read() -> None:
    reading = ProcessReading.of(os.getpid())
    assert reading.rss_mb >= reading.pss_mb > 1
    assert reading.rss_mb >= reading.anonymous_mb > 1
    assert reading.descriptors > 2 and reading.threads >= 1


def test_the_allocator_knows_what_is_in_use() -> None:
    before = allocator_mb()
    if before is None:
        return  # no glibc
    kept = [bytes(1000) for _ in range(20_000)]
    after = allocator_mb()
    assert after is not None and after["used"] - before["used"] > 15  # what was free may serve
    assert len(kept) == 20_000


def test_tasks_of_the_running_loop_are_counted() -> None:
    async def main() -> int:
        sleeping = [asyncio.create_task(asyncio.sleep(60)) for _ in range(3)]
        told = held(by_type=True)
        for task in sleeping:
            task.cancel()
        assert told["types"]
        return int(told["tasks"])

    assert asyncio.run(main()) == 4


def test_a_running_server_tells_what_it_holds(tmp_path: Path) -> None:
    async def main() -> None:
        arguments = ["--backend", "passthrough", "--no-calibration", "--log-level", "warning"]
        async with (
            watched_server(arguments, tmp_path) as server,
            httpx.AsyncClient(timeout=30) as client,
        ):
            told = await server.held()
            assert told["tasks"] > 0 and told["objects"] > 0
            assert (await server.metrics(client))["lipwire_sessions"] == 0
            engine = server.engine_pid()
            assert engine is not None and ProcessReading.of(engine).threads >= 1
            assert server.shared_memory_mb() == 0
        assert not server.complaints()

    asyncio.run(main())
