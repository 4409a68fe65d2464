"""The heap's arenas."""

from __future__ import annotations

import subprocess
import sys

import pytest

THREADS = """
import ctypes, re, threading
from server.allocator import limit_arenas
limited = {limited} and limit_arenas()
libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
barrier = threading.Barrier(6)
def hold():
    libc.malloc(ctypes.c_size_t(5000))
    barrier.wait()
threads = [threading.Thread(target=hold) for _ in range(6)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
libc.malloc_stats()
print(limited)
"""


def _arenas(*, limited: bool) -> int:
    run = subprocess.run(
        [sys.executable, "-c", THREADS.format(limited=limited)],
        capture_output=True,
        text=True,
        check=True,
    )
    if limited and run.stdout.strip() != "True":
        pytest.skip("this C library has no arenas to limit")
    return run.stderr.count("Arena ")


def test_threads_share_two_arenas() -> None:
    assert _arenas(limited=False) > 2
    assert _arenas(limited=True) <= 2
