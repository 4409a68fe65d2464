"""Less processor time for a running server: a quota on its processes, or busy neighbours.

with quota(pids, share=0.3): ...       # as root: what `docker run --cpus 0.3` does
with neighbours(per_core=2): ...       # anybody: busy loops of the server's own priority
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

CGROUPS = Path("/sys/fs/cgroup")
PERIOD_US = 100_000  # the kernel's and every container runtime's own choice
BUSY = "while True: pass"


class NoQuota(OSError):
    """Control groups of processor time cannot be made here."""


@contextlib.contextmanager
def quota(pids: Iterable[int], share: float, root: Path = CGROUPS) -> Iterator[None]:
    """Gives processes, and the children they have now, `share` of one core together.

    Args:
        root: where control groups are mounted, of version 2 or 1.

    Raises:
        NoQuota: there are none, or we are not root.
    """
    unified = (root / "cgroup.controllers").exists()
    parent = root if unified else root / "cpu"
    group = parent / f"lipwire-squeeze-{os.getpid()}"
    quota_us = round(share * PERIOD_US)
    try:
        if unified:
            (root / "cgroup.subtree_control").write_text("+cpu")
        homes = {pid: _group_of(pid, parent, unified) for pid in pids}
        group.mkdir()
    except OSError as error:
        raise NoQuota(f"expected control groups of processor time: {error}") from error
    try:
        # A group counts as one process of ordinary priority, whatever is inside: only its quota
        # is to squeeze it.
        if unified:
            (group / "cpu.weight").write_text("10000")
            (group / "cpu.max").write_text(f"{quota_us} {PERIOD_US}")
        else:
            (group / "cpu.shares").write_text("262144")
            (group / "cpu.cfs_period_us").write_text(str(PERIOD_US))
            (group / "cpu.cfs_quota_us").write_text(str(quota_us))
        for pid in homes:
            (group / "cgroup.procs").write_text(str(pid))
        yield
    finally:
        for pid, home in homes.items():
            with contextlib.suppress(OSError):  # it has ended
                (home / "cgroup.procs").write_text(str(pid))
        with contextlib.suppress(OSError):  # children of its are left inside; root's to remove
            group.rmdir()


def _group_of(pid: int, parent: Path, unified: bool) -> Path:
    """The control group a process is in now."""
    for line in Path(f"/proc/{pid}/cgroup").read_text(encoding="ascii").splitlines():
        _, controllers, path = line.split(":", 2)
        if (controllers == "") if unified else ("cpu" in controllers.split(",")):
            return parent / path.lstrip("/")
    return parent


@contextlib.contextmanager
def neighbours(per_core: int, niceness: int = 0) -> Iterator[None]:
    """So many busy loops for each core.

    Args:
        niceness: of the loops: the server's, for them to count as much as it does.
    """
    more = niceness - os.getpriority(os.PRIO_PROCESS, 0)
    command = ["nice", "-n", str(more), sys.executable, "-c", BUSY]
    count = per_core * len(os.sched_getaffinity(0))
    loops = [subprocess.Popen(command) for _ in range(count)]
    try:
        yield
    finally:
        for loop in loops:
            loop.kill()
        for loop in loops:
            loop.wait()
