"""What the application of one gateway runs on: engine, sessions, avatars, metrics."""

from __future__ import annotations

import asyncio
import gc
from collections import deque
from collections.abc import Awaitable, Callable
from pathlib import Path

from engine.errors import LipwireError
from server.access.gate import open_tokens
from server.access.tickets import Tickets
from server.api.refusals import INTERNAL, Refusal, refusal_of
from server.avatars.library import AvatarLibrary
from server.avatars.uploads import AvatarUploads, limits_for
from server.calls.sessions import Sessions
from server.calls.streams import Streams
from server.capacity.gateway_calibration import CallCost, measure_call_ms
from server.capacity.idle_calibration import REMEMBERED, IdleTimer
from server.capacity.loop_lag import LagJudge, watch_loop
from server.capacity.places import LATE_HOPS_OF_A_FULL_GATEWAY, OwnPlaces, Places
from server.config import Settings
from server.engine_link.host import EngineHost
from server.engine_link.settings import engine_settings
from server.metrics.backend import BackendCollector
from server.metrics.counters import Metrics
from server.metrics.engine import EngineCollector
from server.metrics.plans import PlanCollector
from server.webrtc import aiortc_overrides

COUNT_INTERVAL_S = 5.0
FULL_SHARE = 0.9  # of one core: a gateway beyond it falls behind


class Gateway:
    """What the application runs on: engine, sessions, avatars, metrics.

    Attributes:
        metrics_page: makes what `/metrics` shows.
    """

    def __init__(
        self,
        settings: Settings,
        core: str | None = None,
        *,
        host: EngineHost | None = None,
        places: Places | None = None,
        tickets: Tickets | None = None,
        session_suffix: str = "",
    ) -> None:
        """
        Args:
            core: "module:callable" of another engine core than the settings' own.
            host: the engine; None: a process of its own.
            places: where calls get theirs; None: its own.
            tickets: who knows which were taken; None: this process alone.
            session_suffix: what the ids of its sessions end with.
        """
        self.settings = settings
        self.metrics = Metrics()
        self.tokens = open_tokens(settings, tickets)
        self.library = AvatarLibrary(settings.avatar_path)
        self.host = host or EngineHost(engine_settings(settings, core))
        self.places: Places = places or OwnPlaces(settings)
        self.sessions = Sessions(
            settings, self.host, self.library, self.metrics, self.places, session_suffix
        )
        self.streams = Streams(self.sessions, settings)
        self.metrics_page: Callable[[], Awaitable[bytes]] = self._own_metrics
        self._counting: asyncio.Task[None] | None = None
        self._watching: asyncio.Task[None] | None = None
        self._lag = LagJudge()
        self._posters: dict[str, bytes] = {}
        self.uploads = AvatarUploads(
            settings.uploads_path,
            self.library,
            limits_for(
                settings.max_upload_mb << 20,
                settings.max_avatars_mb << 20,
                settings.max_width,
                settings.max_height,
            ),
        )
        self.metrics.registry.register(EngineCollector(self.host))
        self.metrics.registry.register(BackendCollector(lambda: self.host.ready))
        self.metrics.registry.register(PlanCollector(lambda: self.host.ready, settings.plans))
        self.metrics.sessions_limit.set_function(lambda: self.places.limit)
        self.metrics.viewers.set_function(lambda: self.sessions.viewers)

    async def start(self) -> None:
        """Loads the engine.

        Raises:
            EngineUnavailable: it says why it cannot run.
        """
        if self.settings.aiortc_overrides:
            aiortc_overrides.apply()
        ready = await self.host.start()
        if self.settings.calibrate:
            clip = next((info.folder / "clip.mp4" for info in self.library.infos()), None)
            call_ms = await asyncio.to_thread(measure_call_ms, clip)
            self.places.set_capacity(ready, call_ms)
            counting = self._count_cost(clip, call_ms)
            self._counting = asyncio.create_task(counting, name="cost-counter")
        self._watching = asyncio.create_task(watch_loop(self._note_lag), name="loop-lag")
        gc.freeze()  # what is loaded by now stays: collections in mid-call look at calls only

    async def stop(self) -> None:
        """Ends every call and the engine."""
        for task in (self._counting, self._watching):
            if task is not None:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
        await self.uploads.close()
        await self.sessions.close()
        await self.host.stop()
        gc.unfreeze()

    async def _own_metrics(self) -> bytes:
        return self.metrics.render()

    def _note_lag(self, lag_s: float) -> None:
        """Counts a late timer; a loop that is held up for good takes no new calls."""
        self.metrics.loop_lag.observe(lag_s)
        if self._lag.note(lag_s):
            self.places.note_late(LATE_HOPS_OF_A_FULL_GATEWAY)

    async def _count_cost(self, clip: Path | None, call_ms: float) -> None:
        """Corrects the number of places by what hops and calls are seen to cost.

        Args:
            clip: an avatar's, to measure with until calls have been counted.
            call_ms: as measured at the start.
        """
        cost, idle = CallCost(), IdleTimer()
        measured = deque([call_ms], maxlen=REMEMBERED)
        while True:
            await asyncio.sleep(COUNT_INTERVAL_S)
            cost.note(self.sessions.count)
            if cost.call_ms is None and idle.due(self.places.taken):
                measured.append(await asyncio.to_thread(measure_call_ms, clip))
            if self.host.ready is not None:
                self.places.set_capacity(self.host.ready, cost.call_ms or min(measured))
            if cost.share > FULL_SHARE:
                self.places.note_late(LATE_HOPS_OF_A_FULL_GATEWAY)

    async def poster(self, name: str) -> bytes:
        """An avatar's first picture as JPEG, decoded once."""
        if name not in self._posters:
            self._posters[name] = await asyncio.to_thread(self.library.poster, name)
        return self._posters[name]

    def refuse(self, error: LipwireError) -> Refusal:
        """What is told to a call that is not let in, counted."""
        refusal = refusal_of(error) or INTERNAL
        self.metrics.refused.labels(refusal.code).inc()
        return refusal

    def forget_poster(self, name: str) -> None:
        """Another avatar of that name may come."""
        self._posters.pop(name, None)
