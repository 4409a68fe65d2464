"""Plans on disk: built once, verified on every load, evicted when the disk is wanted.

    DIGEST/              a plan; whoever uses it holds its manifest's lock, shared
    DIGEST.lock          held by whoever loads, builds or removes that plan, alone
    .DIGEST.building/    a plan being written; renamed when it is whole
    .DIGEST.old/         a plan being removed

The build lock is always taken before the lock of use, and nobody waits for a lock of use. A
plan that was read need not stay on the disk: its lock of use says that it is wanted soon again.

What goes wrong with the cache never stops its user: he gets a plan built for himself, and the
log says why.
"""

from __future__ import annotations

import errno
import logging
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, Protocol, TypeVar

from engine.errors import LipwireError, PlanError
from engine.media import F32
from engine.plans.file_lock import FileLock
from engine.plans.folder import (
    MANIFEST_FILE,
    Golden,
    read_manifest,
    seal,
    sync,
    verified_golden,
)
from engine.plans.key import PlanKey

logger = logging.getLogger(__name__)

DEFAULT_MAX_BYTES = 4 << 30
_LOCK_SUFFIX = ".lock"
_DIGEST_CHARS = 64
_SHOWN_CHARS = 12

PlanT = TypeVar("PlanT")


class PlanMaker(Protocol[PlanT]):
    """Builds, keeps and runs plans of one key. Errors are LipwireError or OSError."""

    tolerance: float
    """Of the golden outputs, as `Golden` has it."""

    def build(self) -> PlanT:
        """A plan, compiled."""

    def save(self, plan: PlanT, folder: Path) -> None:
        """Writes what `load` needs into an empty folder; no folders in it."""

    def load(self, folder: Path) -> PlanT:
        """The plan that was saved; its files are verified before."""

    def golden_inputs(self) -> Mapping[str, F32]:
        """Inputs that say something about every output."""

    def run(self, plan: PlanT, inputs: Mapping[str, F32]) -> Sequence[F32]:
        """The outputs for these inputs, copies."""


@dataclass(frozen=True, slots=True)
class OpenPlan(Generic[PlanT]):
    """A plan in use.

    Attributes:
        loaded: from the cache; False: built just now.
        use: keeps the plan from being evicted; None where it is not in the cache.
    """

    plan: PlanT
    loaded: bool
    use: FileLock | None

    def close(self) -> None:
        """Says that the plan is no longer in use; without it, the end of the object does."""
        if self.use is not None:
            self.use.release()


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
class PlanCache:
    """The plans of one folder.

    Attributes:
        folder: created when the first plan is kept.
        max_bytes: of all plans; the least recently used goes first.
    """

    folder: Path
    max_bytes: int = DEFAULT_MAX_BYTES

    def open(self, key: PlanKey, maker: PlanMaker[PlanT]) -> OpenPlan[PlanT]:
        """The plan of a key: from the disk where it can be trusted, else built and kept.

        Waits while another process builds the same one.

        Raises:
            LipwireError, OSError: the maker's own, when it cannot build.
        """
        digest = key.digest()
        name = f"{key.component} ({digest[:_SHOWN_CHARS]})"
        try:
            # For this user alone: who may write here decides what runs.
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            building = FileLock.take(self._lock_path(digest), "alone", create=True)
        except OSError as error:
            logger.warning("plan of %s: built without the cache: %s", name, error)
            return OpenPlan(maker.build(), loaded=False, use=None)
        try:
            if (self.folder / digest).exists():
                try:
                    return self._load(digest, key, maker)
                except (LipwireError, OSError) as error:
                    logger.warning("plan of %s is not used, building it anew: %s", name, error)
            plan = maker.build()
            use: FileLock | None = None
            try:
                use = self._store(digest, key, maker, plan)
            except (LipwireError, OSError) as error:
                logger.warning("plan of %s is used but not kept: %s", name, error)
            return OpenPlan(plan, loaded=False, use=use)
        finally:
            building.release()

    def plans(self) -> list[PlanInfo]:
        """Every plan on the disk, the least recently used first."""
        if not self.folder.is_dir():
            return []
        found = [
            info
            for path in self.folder.iterdir()
            if path.is_dir() and len(path.name) == _DIGEST_CHARS
            if (info := self._info(path.name)) is not None
        ]
        return sorted(found, key=lambda info: (info.used_ns, info.digest))

    def prune(self, max_bytes: int | None = None) -> list[PlanInfo]:
        """Removes what killed builders left, damaged plans, and plans down to a size.

        Args:
            max_bytes: that the plans may keep; None: the cache's own.

        Returns:
            The plans removed; what is in use or being built stays.

        Raises:
            OSError: the disk.
        """
        if not self.folder.is_dir():
            return []
        for path in list(self.folder.iterdir()):
            digest = path.name.removeprefix(".").split(".")[0]
            if path.name != digest and len(digest) == _DIGEST_CHARS:
                self._clear_leftovers(digest)
        damaged = [info for info in self.plans() if info.problem and self._remove(info.digest)]
        return damaged + self._evict(self.max_bytes if max_bytes is None else max_bytes)

    def _lock_path(self, digest: str) -> Path:
        return self.folder / f"{digest}{_LOCK_SUFFIX}"

    def _hidden(self, digest: str, what: str) -> Path:
        return self.folder / f".{digest}.{what}"

    def _load(self, digest: str, key: PlanKey, maker: PlanMaker[PlanT]) -> OpenPlan[PlanT]:
        folder = self.folder / digest
        golden = verified_golden(folder, key)
        plan = maker.load(folder)
        golden.check(maker.run(plan, golden.inputs))
        manifest = folder / MANIFEST_FILE
        os.utime(manifest)
        return OpenPlan(plan, loaded=True, use=FileLock.take(manifest, "shared"))

    def _store(
        self, digest: str, key: PlanKey, maker: PlanMaker[PlanT], plan: PlanT
    ) -> FileLock | None:
        made = self._hidden(digest, "building")
        inputs = maker.golden_inputs()
        golden = Golden(inputs, maker.run(plan, inputs), maker.tolerance)
        golden.check(golden.outputs)  # no load could pass where they are not finite
        try:
            _delete(made)
            made.mkdir()
            maker.save(plan, made)
            seal(made, key, golden)
            size = _size(made)
            if size > self.max_bytes:
                raise PlanError(f"it has {size} bytes, and {self.folder} may hold {self.max_bytes}")
            self._set_aside(digest)
            made.rename(self.folder / digest)
            sync(self.folder)
        except OSError as error:
            raise _disk_error(error, self.folder) from error
        finally:
            shutil.rmtree(made, ignore_errors=True)
        use = FileLock.take(self.folder / digest / MANIFEST_FILE, "shared")
        self._evict(self.max_bytes)
        return use

    def _evict(self, max_bytes: int) -> list[PlanInfo]:
        plans = self.plans()
        total = sum(info.size_bytes for info in plans)
        evicted = []
        for info in plans:
            if total <= max_bytes:
                break
            if self._remove(info.digest):
                total -= info.size_bytes
                evicted.append(info)
        return evicted

    def _remove(self, digest: str) -> bool:
        """Removes a plan that nobody builds, loads or uses; whether it did."""
        building = FileLock.take_now(self._lock_path(digest), "alone", create=True)
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

    def _clear_leftovers(self, digest: str) -> None:
        building = FileLock.take_now(self._lock_path(digest), "alone", create=True)
        if building is None:
            return
        try:
            _delete(self._hidden(digest, "building"))
            _delete(self._hidden(digest, "old"))
            if not (self.folder / digest).exists():
                self._lock_path(digest).unlink()
        finally:
            building.release()

    def _is_free(self, digest: str) -> bool:
        manifest = self.folder / digest / MANIFEST_FILE
        try:
            use = FileLock.take_now(manifest, "alone")
        except FileNotFoundError:
            return True
        if use is None:
            return False
        use.release()
        return True

    def _set_aside(self, digest: str) -> None:
        """Takes a plan's name away at once, then its files."""
        folder, old = self.folder / digest, self._hidden(digest, "old")
        _delete(old)
        if folder.exists():
            folder.rename(old)
            _delete(old)

    def _info(self, digest: str) -> PlanInfo | None:
        folder, problem = self.folder / digest, ""
        key: Mapping[str, object] = {}
        try:
            try:
                key = read_manifest(folder)["key"]
            except PlanError as error:
                problem = str(error)
            manifest = folder / MANIFEST_FILE
            marked = manifest if manifest.exists() else folder
            used_ns, size = marked.stat().st_mtime_ns, _size(folder)
            return PlanInfo(digest, key, size, used_ns, not self._is_free(digest), problem)
        except FileNotFoundError:  # removed meanwhile
            return None


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.iterdir())


def _delete(folder: Path) -> None:
    if folder.exists():
        shutil.rmtree(folder)


def _disk_error(error: OSError, folder: Path) -> PlanError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        free = shutil.disk_usage(folder).free
        return PlanError(f"the disk of {folder} is full ({free} bytes free): {error.strerror}")
    return PlanError(f"cannot write to {folder}: {error}")
