"""Where plans lie on the disk: names, locks, and how one appears and goes at once.

    DIGEST/              a plan; whoever uses it holds its manifest's lock, shared
    DIGEST.lock          held by whoever loads, builds or removes that plan, alone
    .DIGEST.building/    a plan being written; renamed when it is whole
    .DIGEST.old/         a plan being removed

The build lock is always taken before the lock of use, and nobody waits for a lock of use. A
plan that was read need not stay on the disk: its lock of use says that it is wanted soon again.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from engine.errors import PlanError
from engine.plans.file_lock import FileLock
from engine.plans.folder import MANIFEST_FILE, read_manifest, sync

_LOCK_SUFFIX = ".lock"
_DIGEST_CHARS = 64


@dataclass(frozen=True, slots=True)
class PlanInfo:
    """A plan as it lies on the disk.

    Attributes:
        digest: of its key.
        key: as the manifest has it; empty where the manifest is damaged.
        size_bytes: of all its files.
        used_ns: when it was used last, since the epoch.
        in_use: by a process that runs.
        problem: why it is not going to be loaded; "" where nothing is known against it.
    """

    digest: str
    key: Mapping[str, object]
    size_bytes: int
    used_ns: int
    in_use: bool
    problem: str


@dataclass(frozen=True, slots=True)
class PlanDirectory:
    """The folder of all plans; it need not be there yet."""

    folder: Path

    def path(self, digest: str) -> Path:
        """The folder of one plan."""
        return self.folder / digest

    def create(self) -> None:
        """Makes the folder, for this user alone: who may write here decides what runs.

        Raises:
            OSError: it cannot be made.
        """
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def build_lock(self, digest: str) -> FileLock:
        """Waits for the lock of whoever loads, builds or removes this plan.

        Raises:
            OSError: the folder cannot be written.
        """
        return FileLock.take(self._lock_path(digest), "alone", create=True)

    def build_lock_now(self, digest: str) -> FileLock | None:
        """The same lock, None where another holds it.

        Raises:
            OSError: as of `build_lock`.
        """
        return FileLock.take_now(self._lock_path(digest), "alone", create=True)

    def use(self, digest: str) -> FileLock:
        """The lock of use: as long as it is held, the plan is not evicted.

        Raises:
            OSError: the plan is gone.
        """
        return FileLock.take(self.path(digest) / MANIFEST_FILE, "shared")

    def mark_used(self, digest: str) -> None:
        """Makes a plan the most recently used one.

        Raises:
            OSError: it is gone, or the disk.
        """
        os.utime(self.path(digest) / MANIFEST_FILE)

    @contextmanager
    def draft(self, digest: str) -> Iterator[Path]:
        """An empty folder for a plan; what lies in it is gone at the end unless it was put.

        Raises:
            OSError: the disk.
        """
        made = self._hidden(digest, "building")
        try:
            _delete(made)
            made.mkdir()
            yield made
        finally:
            shutil.rmtree(made, ignore_errors=True)

    def put(self, digest: str, draft: Path) -> None:
        """Makes a draft the plan of this digest, in place of what had the name.

        Raises:
            OSError: the disk.
        """
        self._set_aside(digest)
        draft.rename(self.path(digest))
        sync(self.folder)

    def remove(self, digest: str) -> bool:
        """Removes a plan that nobody builds, loads or uses; whether it did."""
        building = self.build_lock_now(digest)
        if building is None:
            return False
        try:
            if not self._is_free(digest):
                return False
            self._set_aside(digest)
            self._lock_path(digest).unlink()
            return True
        finally:
            building.release()

    def clear_leftovers(self) -> None:
        """Removes what builders left that were killed.

        Raises:
            OSError: the disk.
        """
        for path in list(self.folder.iterdir()):
            digest = path.name.removeprefix(".").split(".")[0]
            if path.name == digest or len(digest) != _DIGEST_CHARS:
                continue
            building = self.build_lock_now(digest)
            if building is None:
                continue
            try:
                _delete(self._hidden(digest, "building"))
                _delete(self._hidden(digest, "old"))
                if not self.path(digest).exists():
                    self._lock_path(digest).unlink()
            finally:
                building.release()

    def plans(self) -> list[PlanInfo]:
        """Every plan on the disk, the least recently used first."""
        if not self.folder.is_dir():
            return []
        found = [
            info
            for path in self._plan_folders()
            if path.is_dir() and (info := self._info(path.name)) is not None
        ]
        return sorted(found, key=lambda info: (info.used_ns, info.digest))

    def size_bytes(self) -> int:
        """Of all plans on the disk, those that are being built left out."""
        try:
            return sum(map(folder_size, self._plan_folders()))
        except OSError:  # no folder yet, or a plan was removed meanwhile
            return 0

    def _plan_folders(self) -> list[Path]:
        return [path for path in self.folder.iterdir() if len(path.name) == _DIGEST_CHARS]

    def _lock_path(self, digest: str) -> Path:
        return self.folder / f"{digest}{_LOCK_SUFFIX}"

    def _hidden(self, digest: str, what: str) -> Path:
        return self.folder / f".{digest}.{what}"

    def _is_free(self, digest: str) -> bool:
        try:
            use = FileLock.take_now(self.path(digest) / MANIFEST_FILE, "alone")
        except FileNotFoundError:
            return True
        if use is None:
            return False
        use.release()
        return True

    def _set_aside(self, digest: str) -> None:
        """Takes a plan's name away at once, then its files."""
        folder, old = self.path(digest), self._hidden(digest, "old")
        _delete(old)
        if folder.exists():
            folder.rename(old)
            _delete(old)

    def _info(self, digest: str) -> PlanInfo | None:
        folder, problem = self.path(digest), ""
        key: Mapping[str, object] = {}
        try:
            try:
                key = read_manifest(folder)["key"]
            except PlanError as error:
                problem = str(error)
            manifest = folder / MANIFEST_FILE
            marked = manifest if manifest.exists() else folder
            used_ns, size = marked.stat().st_mtime_ns, folder_size(folder)
            return PlanInfo(digest, key, size, used_ns, not self._is_free(digest), problem)
        except FileNotFoundError:  # removed meanwhile
            return None


def folder_size(folder: Path) -> int:
    """Bytes of a folder's files.

    Raises:
        OSError: it is gone.
    """
    return sum(path.stat().st_size for path in folder.iterdir())


def _delete(folder: Path) -> None:
    if folder.exists():
        shutil.rmtree(folder)
