"""A server that says at a signal what it holds: tasks, Python objects, the C allocator's books.

    python -m benchmarks.observed_server FILE serve --port 8080
    kill -USR1 PID      # FILE is replaced by what is held now, as JSON

Otherwise it is `lipwire`. The kernel tells from outside how much memory a process has; only the
allocator knows how much of it is in use (a leak, if it grows) and how much is free but kept
(fragmentation), and only the event loop knows its tasks.
"""

from __future__ import annotations

import asyncio
import ctypes
import gc
import json
import signal
import sys
import tracemalloc
from collections import Counter
from pathlib import Path
from typing import Any

from server.cli import main

TYPES_TOLD = 40  # the most frequent types of objects


class MallInfo2(ctypes.Structure):
    """glibc's `struct mallinfo2`, in bytes, of all arenas together."""

    _fields_ = tuple(
        (name, ctypes.c_size_t)
        for name in (
            "arena", "ordblks", "smblks", "hblks", "hblkhd",
            "usmblks", "fsmblks", "uordblks", "fordblks", "keepcost",
        )
    )  # fmt: skip


def allocator_mb() -> dict[str, float] | None:
    """The C allocator's memory in MB: `used`, `free` but kept, `mapped` one by one.

    None where there is no glibc of 2.33 or later.
    """
    try:
        mallinfo2 = ctypes.CDLL(None).mallinfo2
    except (AttributeError, OSError):
        return None
    mallinfo2.restype = MallInfo2
    told = mallinfo2()
    parts = {"used": told.uordblks, "free": told.fordblks, "mapped": told.hblkhd}
    return {name: round(size / 1e6, 3) for name, size in parts.items()}


def held(by_type: bool) -> dict[str, Any]:
    """What this process holds now.

    Objects that were there when the server froze its start (`gc.freeze`) are not among them.

    Args:
        by_type: collect garbage first, count objects by type too and, where Python traces its
            allocations (`PYTHONTRACEMALLOC=1`), bytes by the line that allocated them; it takes
            some 50 ms, with traces a second.
    """
    if by_type:
        gc.collect()
    objects = gc.get_objects()
    loop = asyncio._get_running_loop()
    found: dict[str, Any] = {
        "objects": len(objects),
        "tasks": None if loop is None else len(asyncio.all_tasks(loop)),
        "allocator": allocator_mb(),
    }
    if by_type:
        kinds = Counter(f"{type(thing).__module__}.{type(thing).__qualname__}" for thing in objects)
        found["types"] = dict(kinds.most_common(TYPES_TOLD))
        if tracemalloc.is_tracing():
            found["lines"] = _bytes_by_line()
    return found


def _bytes_by_line() -> dict[str, int]:
    """Bytes that Python has allocated and not freed, by the end of the path of who did."""
    lines: Counter[str] = Counter()
    for statistic in tracemalloc.take_snapshot().statistics("lineno"):
        frame = statistic.traceback[0]
        lines["/".join(Path(frame.filename).parts[-2:]) + f":{frame.lineno}"] += statistic.size
    return dict(lines)


def tell_at_signals(path: Path) -> None:
    """SIGUSR1 writes what is held, SIGUSR2 the same with types."""

    def tell(number: int, _: object) -> None:
        draft = path.with_suffix(".part")
        draft.write_text(json.dumps(held(number == signal.SIGUSR2)), encoding="utf-8")
        draft.replace(path)

    signal.signal(signal.SIGUSR1, tell)
    signal.signal(signal.SIGUSR2, tell)


if __name__ == "__main__":
    tell_at_signals(Path(sys.argv[1]))
    sys.exit(main(sys.argv[2:]))
