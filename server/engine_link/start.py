"""How far an engine's start is, and for how much longer it may go on.

Loading a model takes seconds, and longer than a minute or two means that something hangs. Building
a plan may take an hour. So the two are timed apart, each against its own limit.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import TypeVar

from engine.plans.events import PlanEvent

logger = logging.getLogger(__name__)

LoadedT = TypeVar("LoadedT")

LOAD_LIMIT_S = 120.0


class EngineStart:
    """One start, as the engine tells of it.

    Args:
        build_limit_s: for all plans that are built in it.
        load_limit_s: for everything else.
    """

    def __init__(
        self,
        build_limit_s: float,
        load_limit_s: float = LOAD_LIMIT_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._build_limit_s, self._load_limit_s = build_limit_s, load_limit_s
        self._clock = clock
        self._since = clock()
        self._built_s = self._loaded_s = 0.0  # before `_since`
        self._built = 0
        self._building: str | None = None

    @property
    def building(self) -> str | None:
        """The component whose plan is being built; None: none is."""
        return self._building

    @property
    def remaining_s(self) -> float:
        """Until it is given up if nothing happens; 0 when it is to be given up now."""
        limit_s = self._build_limit_s if self._building else self._load_limit_s
        return max(limit_s - self._spent_s(), 0.0)

    def note(self, event: PlanEvent) -> None:
        """Takes what the engine says of a plan."""
        if event.kind not in ("building", "built"):
            return
        now = self._clock()
        if self._building:
            self._built_s += now - self._since
        else:
            self._loaded_s += now - self._since
        self._since = now
        self._building = event.component if event.kind == "building" else None
        self._built += event.kind == "built"

    def describe(self) -> str:
        """What it does, for people."""
        if self._building is None:
            return f"loading the model, {self._spent_s():.0f} of at most {self._load_limit_s:.0f} s"
        before = f", {self._built} built before it" if self._built else ""
        return (
            f"building the plan of {self._building}{before}, "
            f"{self._spent_s():.0f} of at most {self._build_limit_s:.0f} s"
        )

    def overdue(self) -> str:
        """Why it is given up, and what to do."""
        if self._building is None:
            return f"expected the engine to load within {self._load_limit_s:.0f} s, it did not"
        return (
            f"expected the plans to be built within {self._build_limit_s:.0f} s, and that of "
            f"{self._building} is not: raise plan_build_timeout_s, or build ahead of the server "
            "with lipwire plans build"
        )

    def _spent_s(self) -> float:
        before = self._built_s if self._building else self._loaded_s
        return before + self._clock() - self._since


async def until_loaded(
    loaded: asyncio.Future[LoadedT], start: EngineStart, interval_s: float
) -> LoadedT:
    """What the engine says when it is ready; what it is waited for goes into the log.

    Args:
        loaded: cancelled if it is given up.
        interval_s: between two lines of the log.

    Raises:
        TimeoutError: it took too long; the message says at what, and what to do.
    """
    try:
        while not loaded.done():
            if start.remaining_s == 0.0:
                raise TimeoutError(start.overdue())
            await asyncio.wait({loaded}, timeout=min(start.remaining_s, interval_s))
            if start.building and not loaded.done():
                logger.info("engine: %s", start.describe())
        return loaded.result()
    finally:
        loaded.cancel()


class PlanTeller:
    """Tells whoever waits for the engine's start of the plans that are built in it.

    Later there are others on the connection, and plans are loaded in a thread.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection: Connection | None = connection

    def __call__(self, event: PlanEvent) -> None:
        if self._connection is not None:
            with contextlib.suppress(OSError):  # nobody waits: the loop will find that out
                self._connection.send(event)

    def stop(self) -> None:
        self._connection = None
