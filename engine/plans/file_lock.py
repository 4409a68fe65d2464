"""A lock between processes that no killed holder keeps: flock on a file.

The system lets go of it when the last descriptor of the open file is closed, which the end of
a process does, however it ends. Two opens of one file in one process exclude each other too.
"""

from __future__ import annotations

import os
import weakref
from pathlib import Path
from typing import Literal

Mode = Literal["alone", "shared"]


class FileLock:
    """A lock that is held; `release` lets go of it, and so does the end of the object."""

    def __init__(self, descriptor: int) -> None:
        self.release = weakref.finalize(self, os.close, descriptor)

    @staticmethod
    def take(path: Path, mode: Mode, *, create: bool = False) -> FileLock:
        """Waits for the lock on a file.

        Raises:
            OSError: the file is absent (without `create`), or cannot be opened or locked.
        """
        lock = _take(path, mode, create=create, wait=True)
        assert lock is not None
        return lock

    @staticmethod
    def take_now(path: Path, mode: Mode, *, create: bool = False) -> FileLock | None:
        """The lock on a file, None where another holds it.

        Raises:
            OSError: as of `take`.
        """
        return _take(path, mode, create=create, wait=False)


def _take(path: Path, mode: Mode, *, create: bool, wait: bool) -> FileLock | None:
    try:
        import fcntl
    except ImportError as error:  # Windows
        raise OSError("this system has no flock") from error
    how = fcntl.LOCK_EX if mode == "alone" else fcntl.LOCK_SH
    while True:
        # For writing, because NFS gives an exclusive lock on nothing less.
        descriptor = os.open(path, os.O_RDWR | (os.O_CREAT if create else 0), 0o600)
        try:
            fcntl.flock(descriptor, how if wait else how | fcntl.LOCK_NB)
            if _is_at(descriptor, path):
                return FileLock(descriptor)
        except BlockingIOError:
            os.close(descriptor)
            return None
        except BaseException:
            os.close(descriptor)
            raise
        # Its last holder removed or replaced the file while we waited: that lock guards nothing.
        os.close(descriptor)


def _is_at(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False
