"""Plans on disk: built once, verified on every load, evicted when the disk is wanted.

What goes wrong with the cache never stops its user: he gets a plan built for himself, and the
log says why. `engine.plans.directory` has how plans lie on the disk and who may touch them when.
"""

from __future__ import annotations

import errno
import logging
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Generic, Protocol, TypeVar

from engine.errors import LipwireError, PlanError, PlanMissing
from engine.media import F32
from engine.plans.directory import PlanDirectory, PlanInfo, folder_size
from engine.plans.events import PlanEvent, RejectionReason
from engine.plans.file_lock import FileLock
from engine.plans.folder import Golden, seal, verified_golden
from engine.plans.key import PlanKey
from engine.plans.pruning import evict, prune

logger = logging.getLogger(__name__)

DEFAULT_MAX_BYTES = 4 << 30
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
        folder = self._directory.path(digest)
        if not self.builds and not folder.is_dir():
            raise PlanMissing(f"there is no plan of {_name(key)} in {self.folder}")
        try:
            self._directory.create()
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

    def plans(self) -> list[PlanInfo]:
        """Every plan on the disk, the least recently used first."""
        return self._directory.plans()

    def size_bytes(self) -> int:
        """Of all plans on the disk, those that are being built left out."""
        return self._directory.size_bytes()

    def prune(self, max_bytes: int | None = None) -> list[PlanInfo]:
        """Removes what killed builders left, damaged plans, and plans down to a size.

        Args:
            max_bytes: that the plans may keep; None: the cache's own.

        Returns:
            The plans removed; what is in use or being built stays.

        Raises:
            OSError: the disk.
        """
        return prune(self._directory, self.max_bytes if max_bytes is None else max_bytes)

    @property
    def _directory(self) -> PlanDirectory:
        return PlanDirectory(self.folder)

    def _lock(self, digest: str, key: PlanKey) -> FileLock:
        """The lock of a plan, alone.

        Raises:
            PlanMissing: it is taken, and this cache waits for nobody.
            OSError: the folder cannot be written.
        """
        if self.builds:
            return self._directory.build_lock(digest)
        lock = self._directory.build_lock_now(digest)
        if lock is None:
            raise PlanMissing(f"another process is at work on the plan of {_name(key)}")
        return lock

    def _open_unlocked(
        self, key: PlanKey, maker: PlanMaker[PlanT], error: OSError
    ) -> OpenPlan[PlanT]:
        """A plan from a folder that cannot be written, as in an image; else built for this user."""
        if self._directory.path(key.digest()).is_dir():
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

    def _load(
        self, key: PlanKey, maker: PlanMaker[PlanT], *, locked: bool = True
    ) -> OpenPlan[PlanT]:
        """A plan that lies in the folder.

        Args:
            locked: its lock is held, and that it is in use is to be marked.

        Raises:
            PlanError: it cannot be trusted.
        """
        digest = key.digest()
        folder = self._directory.path(digest)
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
                self._directory.mark_used(digest)
                use = self._directory.use(digest)
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
        inputs = maker.golden_inputs()
        golden = Golden(inputs, maker.run(plan, inputs), maker.tolerance)
        golden.check(golden.outputs)  # no load could pass where they are not finite
        try:
            with self._directory.draft(digest) as draft:
                maker.save(plan, draft)
                seal(draft, key, golden)
                size = folder_size(draft)
                if size > self.max_bytes:
                    raise PlanError(
                        f"it has {size} bytes, and {self.folder} may hold {self.max_bytes}"
                    )
                self._directory.put(digest, draft)
        except OSError as error:
            raise _disk_error(error, self.folder) from error
        use = self._directory.use(digest)
        evict(self._directory, self.max_bytes)
        return use


def _name(key: PlanKey) -> str:
    return f"{key.component} ({key.digest()[:_SHOWN_CHARS]})"


def _disk_error(error: OSError, folder: Path) -> PlanError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        free = shutil.disk_usage(folder).free
        return PlanError(f"the disk of {folder} is full ({free} bytes free): {error.strerror}")
    return PlanError(f"cannot write to {folder}: {error}")
