"""Whose process is at the other end of a Unix socket.

Messages between our processes are pickled, and unpickling runs what it is told to: only the user
that the server runs as may send any. Folder and file modes say so already; this says it where the
connection comes in.
"""

from __future__ import annotations

import os
import socket
import struct
import sys
from typing import Protocol

OWN_USER_ONLY = 0o600  # of a socket's file


class HasOptions(Protocol):
    """A socket, or what asyncio and uvloop give for one."""

    def getsockopt(self, level: int, optname: int, buflen: int) -> bytes:
        """As `socket.socket.getsockopt`."""


def is_own_user(connected: HasOptions) -> bool:
    """Whether the other end of a connected Unix socket is a process of this one's user."""
    if sys.platform != "linux":
        return True  # the modes of folder and file alone
    size = struct.calcsize("3i")
    _, user, _ = struct.unpack(
        "3i", connected.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size)
    )
    return bool(user == os.geteuid())
