"""A folder that is fetched: room for it, alone at it, whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import importlib.metadata
import importlib.util
import json
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from engine.errors import FetchError
from server.commands.hub import Progress, Promise

if TYPE_CHECKING:
    from engine.models.convert import StoredPrecision

SOURCE_FILE: Final = "source.json"
DOWNLOADS: Final = ".downloads"
NEEDED: Final = ("huggingface_hub", "filelock", "torch")
LOCK: Final = ".lock"
SPARE_BYTES: Final = 64 << 20  # beside what is known to be written


@dataclass(frozen=True, slots=True)
class Fetched:
    """What a run has done.

    Attributes:
        made: False: the model was there already, every file as recorded.
        downloaded_bytes: over the network, in this run.
        stored_bytes: of the model folder's files.
        precision: of the stored weights.
    """

    name: str
    folder: Path
    made: bool
    downloaded_bytes: int
    stored_bytes: int
    precision: str
    files: int


@dataclass(frozen=True, slots=True)
class FetchOptions:
    """How to fetch.

    Attributes:
        precision: None: as it is stored already, else f16.
        force: make the folder anew, whatever is there.
        faces: bring InsightFace's models too.
        keep_downloads: leave the downloaded files where they are.
        allow_changed: take a file that the hub has replaced since this version was made.
        mask: `FaceSpec.mask` in the place of the one that is known.
    """

    precision: StoredPrecision | None = None
    force: bool = False
    faces: bool = True
    keep_downloads: bool = False
    allow_changed: bool = False
    mask: str | None = None


def require_packages() -> None:
    """Raises FetchError where a package that fetching needs is absent."""
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise FetchError(
            f"fetching and converting needs {', '.join(missing)}; "
            'to install: pip install -e ".[latentsync]"'
        )


@contextlib.contextmanager
def alone(parent: Path) -> Iterator[None]:
    """One fetch at a time, whichever process it runs in: models share files."""
    import filelock

    try:
        parent.mkdir(parents=True, exist_ok=True)
        with filelock.FileLock(parent / LOCK, timeout=0):
            yield
    except filelock.Timeout as error:
        raise FetchError(f"another lipwire fetch is at work in {parent}") from error


def require_space(
    parent: Path, promises: Sequence[Promise], stored: int, progress: Progress
) -> None:
    """Says what will be downloaded and stored.

    Raises:
        FetchError: it does not fit on the disk.
    """
    missing = sum(promise.missing_bytes for promise in promises)
    need = missing + stored + SPARE_BYTES
    free = shutil.disk_usage(parent).free
    progress.say(
        f"to download {gb(missing)}, to store {gb(stored)}; {gb(free)} are free in {parent}"
    )
    if need > free:
        raise FetchError(
            f"expected {gb(need)} free in {parent} "
            f"({gb(missing)} to download, {gb(stored)} for the model), found {gb(free)}; "
            "make room, or choose another disk with --dir or LIPWIRE_MODELS_DIR"
        )


def disk_error(error: OSError, parent: Path) -> FetchError:
    """What to raise where a folder could not be written."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        free = gb(shutil.disk_usage(parent).free)
        return FetchError(f"the disk of {parent} is full ({free} free): {error.strerror}")
    return FetchError(f"cannot make the model in {parent}: {error}")


def source_note(promises: Sequence[Promise], precision: str) -> dict[str, Any]:
    """Where a folder's files came from."""
    files = [
        {
            **asdict(promise.file),
            "sha256": promise.sha256,
            "size": promise.size,
            "commit": promise.commit,
        }
        for promise in promises
    ]
    return {
        "precision": precision,
        "made_by": f"lipwire {importlib.metadata.version('lipwire')}",
        "files": files,
    }


def write_json(path: Path, value: object) -> None:
    """Writes a value as a person may read it."""
    path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")


def put_in_place(made: Path, folder: Path) -> None:
    """Renames a finished folder to its name; what was there goes."""
    old = folder.with_name(f".{folder.name}.old")
    remove(old)
    if folder.exists():
        folder.rename(old)
    made.rename(folder)
    remove(old)


def remove(folder: Path) -> None:
    """Removes a folder, where there is one."""
    if folder.exists():
        shutil.rmtree(folder)


def gb(size: int) -> str:
    """Bytes for people."""
    return f"{size / 1e9:.2f} GB"
