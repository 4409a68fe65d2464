"""What a test leaves behind: tasks, descriptors, shared memory, threads, child processes."""

from __future__ import annotations

import asyncio
import gc
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import resource_tracker
from pathlib import Path

import pytest

SETTLE_S = 5.0  # a thread that was told to end, or a process that was killed, may take a moment
TURNS = 20  # of the loop, for callbacks of connections that have just closed
# Kept by libraries for the process: tqdm's, anyio's, and torch's prefetcher, which is unnamed.
KEPT_THREADS = ("tqdm_monitor", "AnyIO worker thread", "ThreadPoolExecutor-")
KEPT_OPEN = ("/dev/null", "/dev/urandom", "/proc/", "/sys/")  # opened once by libraries


@dataclass(frozen=True, slots=True)
class Held:
    """What this process holds at one moment.

    Attributes:
        descriptors: number and target of every open descriptor.
        blocks: its shared memory.
        threads: of Python's, alive.
        children: process ids, zombies among them.
    """

    descriptors: frozenset[tuple[int, str]]
    blocks: frozenset[str]
    threads: frozenset[threading.Thread]
    children: frozenset[int]

    @classmethod
    def now(cls) -> Held:
        return cls(
            frozenset(_descriptors()),
            frozenset(path.name for path in Path("/dev/shm").glob(f"lipwire-{os.getpid()}-*")),
            frozenset(t for t in threading.enumerate() if not t.name.startswith(KEPT_THREADS)),
            frozenset(_children()),
        )

    def more_than(self, before: Held) -> list[str]:
        """What is held now and was not before, in words."""
        left = [
            f"descriptor {fd}: {target}" for fd, target in self.descriptors - before.descriptors
        ]
        left += [f"shared memory {name}" for name in self.blocks - before.blocks]
        left += [f"thread {thread.name}" for thread in self.threads - before.threads]
        left += [f"child process {pid}" for pid in self.children - before.children]
        return sorted(left)


def _descriptors() -> Iterator[tuple[int, str]]:
    for entry in Path("/proc/self/fd").iterdir():
        try:
            target = str(entry.readlink())
        except FileNotFoundError:  # the listing's own
            continue
        if not target.startswith(KEPT_OPEN):
            yield int(entry.name), target


def _children() -> set[int]:
    """Child processes but the one that `multiprocessing` keeps to tidy up after all others."""
    tracker = getattr(resource_tracker._resource_tracker, "_pid", None)
    listed = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    return {int(pid) for pid in listed} - {tracker}


def left_since(before: Held) -> list[str]:
    """What is left when all that was on its way out has had its time."""
    resource_tracker.ensure_running()
    deadline = time.monotonic() + SETTLE_S
    while left := Held.now().more_than(before):
        if time.monotonic() > deadline:
            break
        gc.collect()
        time.sleep(0.02)
    return left


@contextmanager
def watched_loops() -> Iterator[list[str]]:
    """Collects the tasks that are pending when a runner's loop closes, instead of cancelling them
    unseen."""
    tasks: list[str] = []
    close = asyncio.Runner.close

    def look_and_close(runner: asyncio.Runner) -> None:
        if runner._state.value == "initialized":  # type: ignore[attr-defined]
            loop = runner.get_loop()
            loop.run_until_complete(_turn())
            tasks.extend(
                f"task {task.get_name()}: {task!r:.200}" for task in asyncio.all_tasks(loop)
            )
        close(runner)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(asyncio.Runner, "close", look_and_close)
        yield tasks


async def _turn() -> None:
    for _ in range(TURNS):
        await asyncio.sleep(0)


@contextmanager
def nothing_left() -> Iterator[None]:
    """Asserts that the block leaves nothing behind."""
    resource_tracker.ensure_running()  # its pipe stays open for good
    before = Held.now()
    with watched_loops() as tasks:
        yield
    left = tasks + left_since(before)
    assert not left, "left behind:\n  " + "\n  ".join(left)
