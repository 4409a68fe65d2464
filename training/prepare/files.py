"""Files that are there whole or not at all, and lines of JSON."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path


def part_of(path: Path) -> Path:
    """Where this process writes what will be `path`: an orphan of a killed run may still write."""
    return path.with_name(f"{path.name}.{os.getpid()}.part")


def write_text(path: Path, text: str) -> None:
    """Writes `text`; a process that dies half way leaves what was there before."""
    part = part_of(path)
    with part.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)


def write_lines(path: Path, lines: Iterable[str]) -> None:
    """Writes lines, whole or not at all."""
    write_text(path, "".join(f"{line}\n" for line in lines))
