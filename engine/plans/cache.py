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
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Generic, Protocol, TypeVar

from engine.errors import LipwireError, PlanError, PlanMissing
from engine.media import F32
from engine.plans.events import PlanEvent, RejectionReason
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
        builds: False: plans are loaded only, and what would have to be built is `PlanMissing`.
        watcher: told what happens to plans.
    """

    folder: Path
    max_bytes: int = DEFAULT_MAX_BYTES
    builds: bool = True
    watcher: Callable[[PlanEvent], None] | None = field(default=None, compare=False)

    def loading_only(self) -> PlanCache:
        """The same plans, none of which is built or waited for."""
        return replace(self, builds=False)

    def open(self, key: PlanKey, maker: PlanMaker[PlanT]) -> OpenPlan[PlanT]:
        """The plan of a key: from the disk where it can be trusted, else built and kept.

        Waits while another process builds the same one.

        Raises:
            PlanMissing: it is not there to be loaded, and this cache builds none.
            LipwireError, OSError: the maker's own, when it cannot build.
        """
        digest = key.digest()
        folder = self.folder / digest
        if not self.builds and not folder.is_dir():
            raise PlanMissing(f"there is no plan of {_name(key)} in {self.folder}")
        try:
            # For this user alone: who may write here decides what runs.
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            building = self._lock(digest, key)
        except OSError as error:
            return self._open_unlocked(key, maker, error)
        try:
            if folder.exists():
                try:
                    return self._load(key, maker)
                except PlanError as error:
                    self._refuse_build(key, error)
                    logger.warning(
                        "plan of %s is not used, building it anew: %s", _name(key), error
                    )
            self._refuse_build(key)
            plan = self._built(key, maker)
            use: FileLock | None = None
            try:
                use = self._store(digest, key, maker, plan)
            except (LipwireError, OSError) as error:
                logger.warning("plan of %s is used but not kept: %s", _name(key), error)
            return OpenPlan(plan, loaded=False, use=use)
        finally:
            building.release()

    def _lock(self, digest: str, key: PlanKey) -> FileLock:
        """The lock of a plan, alone.

        Raises:
            PlanMissing: it is taken, and this cache waits for nobody.
            OSError: the folder cannot be written.
        """
        path = self._lock_path(digest)
        if self.builds:
            return FileLock.take(path, "alone", create=True)
        lock = FileLock.take_now(path, "alone", create=True)
        if lock is None:
            raise PlanMissing(f"another process is at work on the plan of {_name(key)}")
        return lock

    def _open_unlocked(
        self, key: PlanKey, maker: PlanMaker[PlanT], error: OSError
    ) -> OpenPlan[PlanT]:
        """A plan from a folder that cannot be written, as in an image; else built for this user."""
        if (self.folder / key.digest()).is_dir():
            try:
                return self._load(key, maker, locked=False)
            except PlanError as damage:
                self._refuse_build(key, damage)
                logger.warning("plan of %s is not used: %s", _name(key), damage)
        self._refuse_build(key)
        logger.warning("plan of %s: built without the cache: %s", _name(key), error)
        return OpenPlan(self._built(key, maker), loaded=False, use=None)

    def _refuse_build(self, key: PlanKey, error: PlanError | None = None) -> None:
        """Raises PlanMissing where this cache builds nothing."""
        if not self.builds:
            why = "it is gone" if error is None else str(error)
            raise PlanMissing(f"the plan of {_name(key)} is not used: {why}") from error

    def _built(self, key: PlanKey, maker: PlanMaker[PlanT]) -> PlanT:
        self._tell(PlanEvent("building", key.component))
        plan = maker.build()
        self._tell(PlanEvent("built", key.component))
        return plan

    def _tell(self, event: PlanEvent) -> None:
        if self.watcher is not None:
            self.watcher(event)

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

    def size_bytes(self) -> int:
        """Of all plans on the disk, those that are being built left out."""
        try:
            folders = [path for path in self.folder.iterdir() if len(path.name) == _DIGEST_CHARS]
            return sum(_size(path) for path in folders)
        except OSError:  # no folder yet, or a plan was removed meanwhile
            return 0

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

    def _load(
        self, key: PlanKey, maker: PlanMaker[PlanT], *, locked: bool = True
    ) -> OpenPlan[PlanT]:
        """A plan that lies in the folder.

        Args:
            locked: its lock is held, and that it is in use is to be marked.

        Raises:
            PlanError: it cannot be trusted.
        """
        folder = self.folder / key.digest()
        use: FileLock | None = None
        reason: RejectionReason = "damaged"
        try:
            golden = verified_golden(folder, key)
            reason = "refused"
            plan = maker.load(folder)
            outputs = maker.run(plan, golden.inputs)
            reason = "golden"
            golden.check(outputs)
            if locked:
                manifest = folder / MANIFEST_FILE
                os.utime(manifest)
                use = FileLock.take(manifest, "shared")
        except (LipwireError, OSError) as error:
            if isinstance(error, OSError):
                reason = "disk"
            self._tell(PlanEvent("rejected", key.component, reason))
            raise PlanError(str(error)) from error
        self._tell(PlanEvent("loaded", key.component))
        return OpenPlan(plan, loaded=True, use=use)

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


def _name(key: PlanKey) -> str:
    return f"{key.component} ({key.digest()[:_SHOWN_CHARS]})"


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
