"""Counts what a process's plan cache does."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from engine.plans.events import PlanEvent


@dataclass(frozen=True, slots=True)
class PlanCounts:
    """What happened to plans so far.

    Attributes:
        loaded, built: plans that came from the disk, and that were built.
        rejected: plans on the disk that could not be trusted, by reason.
        build_s: time spent building.
    """

    loaded: int = 0
    built: int = 0
    rejected: Mapping[str, int] = field(default_factory=dict)
    build_s: float = 0.0

    def __add__(self, other: PlanCounts) -> PlanCounts:
        return PlanCounts(
            self.loaded + other.loaded,
            self.built + other.built,
            dict(Counter(self.rejected) + Counter(other.rejected)),
            self.build_s + other.build_s,
        )


class PlanCounter:
    """Hears of a cache's events; give it to `PlanCache.watcher`.

    Args:
        then: hears of them after this.

    Attributes:
        counts: so far.
    """

    def __init__(
        self,
        then: Callable[[PlanEvent], None] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.counts = PlanCounts()
        self._then = then
        self._clock = clock
        self._began = 0.0

    def __call__(self, event: PlanEvent) -> None:
        match event.kind:
            case "loaded":
                self.counts += PlanCounts(loaded=1)
            case "rejected":
                self.counts += PlanCounts(rejected={event.reason or "damaged": 1})
            case "building":
                self._began = self._clock()
            case "built":
                self.counts += PlanCounts(built=1, build_s=self._clock() - self._began)
        if self._then is not None:
            self._then(event)
