"""The places for calls as a gateway sees them, and what sets their number."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from typing import Protocol

from server.access.client_limits import ClientLimits
from server.capacity.admission import Admission
from server.capacity.machine import Capacity, HopCost, measured_capacity
from server.config import Settings
from server.engine_link.messages import EngineReady
from server.gateways.messages import GatewayState

logger = logging.getLogger(__name__)

UNMEASURED_SESSIONS = 2  # where nothing is measured and no number is set: what two cores hold
LATE_HOPS_OF_A_FULL_GATEWAY = (
    3  # a gateway out of processor time, or with a late loop, counts as these
)


class Places(Protocol):
    """Where a gateway asks for places."""

    @property
    def taken(self) -> int:
        """Calls now."""

    @property
    def limit(self) -> int:
        """Calls that are let in at present."""

    @property
    def capacity(self) -> Capacity | None:
        """What the machine was measured to hold; None where it was not measured."""

    async def enter(self, session: str, client: str | None) -> None:
        """Takes a place.

        Raises:
            ServerFull: there is none.
            ClientLimited: this client has as many as it may have, or asks too often.
        """

    def leave(self, session: str) -> None:
        """Gives a place back; twice does no harm."""

    def note_late(self, hops: int) -> None:
        """Hears of hops that were late."""

    def set_capacity(self, ready: EngineReady, call_ms: float) -> None:
        """Hears what the engine's hops and this gateway's calls cost.

        Args:
            call_ms: processor time of one call in a second.
        """

    @property
    def gateways(self) -> Sequence[GatewayState]:
        """All processes that hold calls; empty where there is only this one."""


class OwnPlaces:
    """Places that this process itself gives out.

    Attributes:
        admission: who has one.
        capacity: as measured, None before or without that.
    """

    def __init__(self, settings: Settings) -> None:
        limits = ClientLimits(
            settings.client_sessions, settings.client_offers_per_minute, settings.retry_after_s
        )
        self._max_sessions = settings.max_sessions
        self.admission = Admission(
            settings.max_sessions or UNMEASURED_SESSIONS, limits, settings.retry_after_s
        )
        self.capacity: Capacity | None = None
        self._measured: EngineReady | None = None

    @property
    def gateways(self) -> Sequence[GatewayState]:
        return ()

    @property
    def taken(self) -> int:
        return self.admission.taken

    @property
    def limit(self) -> int:
        return self.admission.limit

    async def enter(self, session: str, client: str | None) -> None:
        self.admission.enter(session, client)

    def leave(self, session: str) -> None:
        self.admission.leave(session)

    def note_late(self, hops: int) -> None:
        before = self.limit
        self.admission.note_late(hops)
        if self.limit < before:
            logger.warning(
                "admission: hops or the event loop are late, %d calls for now", self.limit
            )

    def set_capacity(self, ready: EngineReady, call_ms: float, gateways: int = 1) -> None:
        """Sets the number of places by what the engine's hops and a gateway's calls cost.

        Args:
            call_ms: processor time of one call in its gateway in a second.
            gateways: processes that share the calls.
        """
        capacity = measured_capacity(
            self._hop_costs(ready), ready.hop_frames, call_ms, gateways, usable_cores()
        )
        known = self.capacity
        self.capacity = capacity
        places = capacity.sessions
        if self._max_sessions is not None:
            places = min(places, self._max_sessions)
        if known is None or places != self.admission.capacity:
            level = logging.INFO
            if known is None and self._max_sessions is not None and places < self._max_sessions:
                level = logging.WARNING
            wanted = "none set" if self._max_sessions is None else str(self._max_sessions)
            logger.log(
                level, "admission: %s; max_sessions %s: %d", capacity.explain(), wanted, places
            )
        self.admission.capacity = places

    def _hop_costs(self, ready: EngineReady) -> Sequence[HopCost]:
        """What hops cost in the engine of now.

        An engine that was started again, or changed its backend, has not measured yet, since calls
        wait for it. Where another backend runs in it, the costs that were measured last are scaled
        by what a hop of the network takes.
        """
        if self._measured is None or ready.hop_costs:
            self._measured = ready
        last = self._measured
        if ready.backend == last.backend or last.hop_ms <= 0:
            return last.hop_costs
        slower = ready.hop_ms / last.hop_ms
        return [
            HopCost(cost.batch, cost.wall_ms * slower, cost.cpu_ms * slower)
            for cost in last.hop_costs
        ]


def usable_cores() -> int:
    """Processor cores that this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on macOS
        return os.cpu_count() or 1
