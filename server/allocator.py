"""Keeps glibc from giving every codec thread of every call a heap of its own.

Each call brings threads that decode and encode and end with it. glibc makes up to eight arenas a
core for them, which keep what they once held: 200 MB more after a thousand calls.
"""

from __future__ import annotations

import ctypes

M_ARENA_MAX = -8  # malloc.h
ARENAS = 2


def limit_arenas() -> bool:
    """Whether the number of arenas could be limited: only glibc knows how.

    To be called before threads are started.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):  # musl, macOS
        return False
    return bool(mallopt(M_ARENA_MAX, ARENAS))
