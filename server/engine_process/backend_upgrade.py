"""A better backend on its way, off the sessions' path: its plans are built, then it is loaded."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from engine.backends.base import Backend
from server.engine_link.plan_counts import PlanCounts

logger = logging.getLogger(__name__)

STOP_TIMEOUT_S = 3.0  # what loads a plan cannot be interrupted, but it does not take long


class Builder(Protocol):
    """A build that has begun (`server.engine_process.plan_builder.PlanBuilder`)."""

    def wait(self) -> PlanCounts:
        """Waits for its end.

        Raises:
            PlanError: it failed.
        """

    def cancel(self) -> None:
        """Ends it at once."""


@dataclass(frozen=True, slots=True)
class LoadedBackend:
    """A backend that is ready to take over.

    Attributes:
        hops_ms: measured time of one warm hop, by its length.
        built: what its builder did.
    """

    backend: Backend
    hops_ms: Mapping[int, float]
    built: PlanCounts


@dataclass(frozen=True, slots=True)
class UpgradeFailed:
    """There will be no better backend.

    Attributes:
        why: a sentence for people.
    """

    why: str


class BackendUpgrade:
    """One try to get a better backend; there is no second one.

    Args:
        build: begins to build its plans.
        load: opens it from them and makes it warm; gives the time of one hop in ms by its length
            too. It runs in a thread beside the engine's loop, and nobody else has the backend yet.
    """

    def __init__(
        self,
        build: Callable[[], Builder],
        load: Callable[[], tuple[Backend, Mapping[int, float]]],
    ) -> None:
        self._build = build
        self._load = load
        self._builder: Builder | None = None
        self._result: LoadedBackend | UpgradeFailed | None = None
        self._stopping = False
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._work, name="upgrade", daemon=True)

    @property
    def begun(self) -> bool:
        return self._thread.ident is not None

    def begin(self) -> None:
        """Begins; once."""
        self._thread.start()

    def take(self) -> LoadedBackend | UpgradeFailed | None:
        """The result, once, as soon as there is one."""
        with self._lock:
            result, self._result = self._result, None
        return result

    def wait(self, timeout_s: float) -> None:
        """Waits for the result."""
        self._thread.join(timeout_s)

    def stop(self) -> None:
        """Ends the build; a backend that is being loaded is let go."""
        with self._lock:
            self._stopping = True
            builder = self._builder
        if builder is not None:
            builder.cancel()
        if self.begun:
            self._thread.join(STOP_TIMEOUT_S)

    def _work(self) -> None:
        try:
            result: LoadedBackend | UpgradeFailed = self._upgraded()
        except Exception as error:
            if not self._stopping:
                logger.warning("engine: no better backend: %s", error, exc_info=error)
            result = UpgradeFailed(str(error) or type(error).__name__)
        with self._lock:
            self._result = result

    def _upgraded(self) -> LoadedBackend:
        with self._lock:
            if self._stopping:
                raise InterruptedError("the engine is ending")
            self._builder = self._build()
        built = self._builder.wait()
        if self._stopping:
            raise InterruptedError("the engine is ending")
        backend, hops_ms = self._load()
        return LoadedBackend(backend, hops_ms, built)
