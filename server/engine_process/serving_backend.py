"""The backend that an engine serves on: chosen at start, and exchanged when a better one is ready.

chosen, nothing better awaited        -> it stays
chosen, a better one needs its plan   -> the plan is built and loaded beside it
    loaded                            -> sessions move to it at their next hops, on trial
        fails its trial               -> back on the first one; why is told, and no other try
    cannot be built or loaded         -> the first one stays; the same
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import replace

from engine.backends.availability import BackendChoice, PassedOver
from engine.backends.base import Backend
from engine.backends.select import OpenRequest, choose_backend, open_candidate
from engine.backends.switching import SwitchingBackend
from server.engine_link.plan_counts import PlanCounter, PlanCounts
from server.engine_process.backend_upgrade import (
    BackendUpgrade,
    Builder,
    LoadedBackend,
    UpgradeFailed,
)

logger = logging.getLogger(__name__)

FAILED_REMEDY = "look into the log; lipwire plans build --backend {}"


class ServingBackend:
    """One backend for all sessions, whatever runs behind it.

    Args:
        name: a backend, or "auto".
        warm: makes a backend ready for its sessions; gives the time of one hop in ms by its length.
        build: begins to build the plans of a candidate.
        avoid: candidates that must not be tried: name -> why.
        longest_build_s: plans that take longer to build are not waited for; None: all are.
        failed_builds: candidates whose plans could not be built before: name -> why.

    Attributes:
        backend: shared by all streams, the same object for good.
        choice: which one runs behind it now, and why.
        hops_ms: time of one warm hop of it, by the lengths that sessions may have.
        failed_builds: as given, and what failed since.
    """

    def __init__(
        self,
        request: OpenRequest,
        name: str,
        warm: Callable[[Backend], Mapping[int, float]],
        build: Callable[[str], Builder],
        *,
        avoid: Mapping[str, str],
        longest_build_s: float | None,
        failed_builds: Mapping[str, str],
    ) -> None:
        watching = request.plans.watcher if request.plans is not None else None
        self._counter = PlanCounter(watching)
        if request.plans is not None:
            request = replace(request, plans=replace(request.plans, watcher=self._counter))
        self.hops_ms: Mapping[int, float] = {}

        def trial(backend: Backend) -> None:
            self.hops_ms = warm(backend)

        opened = choose_backend(
            request, name, avoid=avoid, trial=trial, longest_build_s=longest_build_s
        )
        self.backend: Backend = opened.backend
        self.choice = opened.choice
        self.failed_builds = dict(failed_builds)
        self._first = (opened.choice, self.hops_ms)
        self._built_beside = PlanCounts()
        self._switching: SwitchingBackend | None = None
        self._upgrade: BackendUpgrade | None = None
        self._switched = False
        self._awaited = opened.awaited or ""
        if not self._awaited:
            return
        if self._awaited in self.failed_builds:
            self._note_failure(self.failed_builds[self._awaited])
            return
        self.backend = self._switching = SwitchingBackend(opened.backend)

        def load() -> tuple[Backend, Mapping[int, float]]:
            backend = open_candidate(self._awaited, request)
            hops_ms = warm(backend)
            for length in set(self.hops_ms) - set(hops_ms):
                backend.warm_up(length)  # there may be sessions with hops of it
            return backend, hops_ms

        self._upgrade = BackendUpgrade(lambda: build(self._awaited), load)

    @property
    def plan_counts(self) -> PlanCounts:
        """What happened to plans here, and in the process that built some."""
        return self._counter.counts + self._built_beside

    @property
    def building(self) -> bool:
        """A better backend is on its way."""
        return self._upgrade is not None and not self._switched

    def poll(self) -> bool:
        """Goes on with what is under way; whether the choice changed. Call it between hops."""
        upgrade, switching = self._upgrade, self._switching
        if upgrade is None or switching is None:
            return False
        if not upgrade.begun:
            logger.info("engine: building the plan for %s, serving on %s",
                        self._awaited, switching.name)  # fmt: skip
            upgrade.begin()
            return False
        match upgrade.take():
            case LoadedBackend() as loaded:
                self._switch(switching, loaded)
                return True
            case UpgradeFailed(why=why):
                self._end(why)
                return True
        if switching.failure is not None:
            self.choice, self.hops_ms = self._first
            self._end(switching.failure)
            return True
        if self._switched and not switching.switching:
            self._upgrade = None
        return False

    def wait(self, timeout_s: float) -> None:
        """Waits until the better backend is loaded or will not be; for tests and benchmarks."""
        if self._upgrade is not None:
            self._upgrade.wait(timeout_s)

    def stop(self) -> None:
        """Ends what is under way."""
        if self._upgrade is not None:
            self._upgrade.stop()

    def _switch(self, switching: SwitchingBackend, loaded: LoadedBackend) -> None:
        logger.info(
            "engine: from %s to %s at the next hops, ms by their length: %s",
            switching.name,
            loaded.backend.name,
            {length: round(hop_ms, 1) for length, hop_ms in loaded.hops_ms.items()},
        )
        switching.switch_to(loaded.backend)
        self._switched = True
        self._built_beside += loaded.built
        self.hops_ms = loaded.hops_ms
        better = []
        for item in self.choice.passed:
            if item.name == self._awaited:
                break
            better.append(item)
        self.choice = BackendChoice(self._awaited, self.choice.asked, tuple(better))

    def _end(self, why: str) -> None:
        """There is nothing better to wait for."""
        self._upgrade = None
        self._note_failure(why)
        logger.warning("engine: staying on %s: %s", self.backend.name, why)

    def _note_failure(self, why: str) -> None:
        self.failed_builds[self._awaited] = why
        failed = PassedOver(
            self._awaited, "failed", why, FAILED_REMEDY.format(self._awaited.split("-")[0])
        )
        passed = [failed if item.name == self._awaited else item for item in self.choice.passed]
        self.choice = replace(self.choice, passed=tuple(passed))
