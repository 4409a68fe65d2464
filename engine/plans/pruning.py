"""Which plans go when the disk is wanted: damaged ones, then the least recently used."""

from __future__ import annotations

from engine.plans.directory import PlanDirectory, PlanInfo


def prune(directory: PlanDirectory, max_bytes: int) -> list[PlanInfo]:
    """Removes what killed builders left, damaged plans, and plans down to a size.

    Returns:
        The plans removed; what is in use or being built stays.

    Raises:
        OSError: the disk.
    """
    if not directory.folder.is_dir():
        return []
    directory.clear_leftovers()
    damaged = [info for info in directory.plans() if info.problem and directory.remove(info.digest)]
    return damaged + evict(directory, max_bytes)


def evict(directory: PlanDirectory, max_bytes: int) -> list[PlanInfo]:
    """Removes the least recently used plans until the others have no more than so many bytes.

    Returns:
        The plans removed; what is in use or being built stays.
    """
    plans = directory.plans()
    total = sum(info.size_bytes for info in plans)
    evicted = []
    for info in plans:
        if total <= max_bytes:
            break
        if directory.remove(info.digest):
            total -= info.size_bytes
            evicted.append(info)
    return evicted
