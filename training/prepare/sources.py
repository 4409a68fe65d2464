"""The videos of a folder, who is in them, and who is kept for validation."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from engine.errors import ConfigError

SUFFIXES: Final = frozenset(
    {
        ".mp4",
        ".m4v",
        ".mov",
        ".mkv",
        ".webm",
        ".avi",
        ".mpg",
        ".mpeg",
        ".ts",
        ".mts",
        ".3gp",
        ".wmv",
    }
)
Split = Literal["train", "validation"]


@dataclass(frozen=True, slots=True)
class Source:
    """One video.

    Attributes:
        name: its path below the folder of videos, with slashes.
        bytes: its size, by which a file that was replaced is known.
    """

    path: Path
    name: str
    bytes: int

    @property
    def key(self) -> str:
        """Ten hexadecimal digits that its files are named by."""
        return hashlib.sha256(self.name.encode()).hexdigest()[:10]

    @property
    def person(self) -> str:
        """Who is in it: the folder below that of videos; a file that lies in none is its own."""
        first, _, rest = self.name.partition("/")
        return first if rest else self.name


def find_sources(folder: Path) -> list[Source]:
    """The videos below a folder, by name.

    Raises:
        ConfigError: there is no such folder, or no video in it.
    """
    if not folder.is_dir():
        raise ConfigError(f"expected a folder of videos, found none at {folder}")
    found = [
        Source(path, path.relative_to(folder).as_posix(), path.stat().st_size)
        for path in folder.rglob("*")
        if path.suffix.lower() in SUFFIXES and path.is_file()
    ]
    if not found:
        raise ConfigError(
            f"expected videos ({', '.join(sorted(SUFFIXES))}) in {folder}, found none"
        )
    return sorted(found, key=lambda source: source.name)


def split_people(people: Iterable[str], share: float, seed: int) -> dict[str, Split]:
    """Who is for validation: about `share` of the people, at least one of several.

    A person's place depends on their name and the seed alone, so that people who are added
    later do not move others from one split to the other, but where there was only one before
    or the only one of validation was there for want of another.
    """
    places = {person: _place(person, seed) for person in people}
    split: dict[str, Split] = {
        person: "validation" if place < share else "train" for person, place in places.items()
    }
    if share > 0 and len(places) > 1:
        kinds = set(split.values())
        if "validation" not in kinds:
            split[min(places, key=lambda person: (places[person], person))] = "validation"
        if "train" not in kinds:
            split[max(places, key=lambda person: (places[person], person))] = "train"
    return split


def _place(person: str, seed: int) -> float:
    """0.0 to 1.0, evenly over names."""
    digest = hashlib.sha256(f"{seed}/{person}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64
