"""The gateway's side of the engine process: starts it, feeds it, restarts it.

Nothing here blocks the event loop (`server.engine_link.link`). An engine that
dies or stops answering is replaced; the sessions live on, show their source
pictures meanwhile, and their streams are opened again at the frame where
media time then stands. Shared memory belongs to the gateway and goes with the
session, whatever became of the engine.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import multiprocessing
import time
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Literal

from engine.errors import LipwireError
from engine.plans.events import PlanEvent
from server.engine_link.crash_record import CrashRecord
from server.engine_link.link import Link
from server.engine_link.messages import (
    EngineCounts,
    EngineFailed,
    EngineReady,
    EngineSettings,
    FromEngine,
    HopReady,
    Mode,
    Ping,
    Pong,
    SessionDeferred,
    SessionFailed,
    SessionMayOpen,
    SessionOpened,
    SlotTaken,
    Stop,
    ToEngine,
)
from server.engine_link.start import EngineStart, until_loaded
from server.engine_link.stream import EngineListener, EngineStream
from server.engine_process.loop import run_engine

logger = logging.getLogger(__name__)

PING_INTERVAL_S = 2.0
PROGRESS_INTERVAL_S = 10.0  # between lines of the log while a plan is built
SILENT_S = 20.0  # an engine without a sign of life for this long is killed
STOP_TIMEOUT_S = 5.0
BACKOFF_S = (0.0, 1.0, 2.0, 5.0, 10.0, 30.0)

State = Literal["starting", "ready", "restarting", "stopped"]


class EngineUnavailable(LipwireError):
    """The engine process could not be started."""


class EngineHost:
    """Runs one engine process for the gateway.

    Attributes:
        state: "ready" while frames can be made.
        starting: how far its last start is, or was when it was ready.
        ready: what the engine reported when it was last loaded.
        restarts: how often the process was replaced.
        busy: share of the engine's time spent computing, at the last sign of life.
        rss_bytes: its largest resident memory.
        counts: what it has done, at the last sign of life; None before the first.
    """

    def __init__(self, settings: EngineSettings) -> None:
        self._settings = settings
        self.state: State = "starting"
        self.starting = EngineStart(settings.build_timeout_s)
        self.ready: EngineReady | None = None
        self.restarts = 0
        self.busy = 0.0
        self.rss_bytes = 0
        self.counts: EngineCounts | None = None
        self._process: BaseProcess | None = None
        self._link: Link | None = None
        self._streams: dict[str, EngineStream] = {}
        self._loaded: asyncio.Future[EngineReady] | None = None
        self._lost = asyncio.Event()
        self._reaping = asyncio.Lock()
        self._supervisor: asyncio.Task[None] | None = None
        self._pong_at = 0.0
        self._crashes = CrashRecord()

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process else None

    def describe_start(self) -> str:
        """What the server is doing until it takes calls, for people."""
        if self.state == "ready":
            return "the engine is ready, the rest is being started"
        return self.starting.describe()

    async def start(self) -> EngineReady:
        """Starts the process and waits until its model is loaded.

        Raises:
            EngineUnavailable: it said why it cannot run, died, or took too long.
        """
        ready = await self._launch()
        self._supervisor = asyncio.create_task(self._supervise(), name="engine-supervisor")
        return ready

    async def stop(self) -> None:
        """Ends the process; kills it if it does not go by itself."""
        self.state = "stopped"
        self.close_streams()
        if self._supervisor is not None:
            self._supervisor.cancel()
            await asyncio.gather(self._supervisor, return_exceptions=True)
            self._supervisor = None
        if self._process is not None:
            self.send(Stop())
        await self._reap()

    def open_stream(
        self,
        session: str,
        mode: Mode,
        avatar: str | None,
        largest: tuple[int, int],
        listener: EngineListener,
    ) -> EngineStream:
        """A stream for a session.

        Args:
            largest: width and height of the largest picture it will see.
        """
        stream = EngineStream(self.send, self.forget, session, mode, avatar, largest, listener)
        self._streams[session] = stream
        if self.state == "ready":
            stream.open()
        return stream

    def close_streams(self) -> None:
        """Closes every stream that is still open."""
        for stream in list(self._streams.values()):
            stream.close()

    def forget(self, session: str) -> None:
        self._streams.pop(session, None)

    def send(self, message: ToEngine) -> None:
        """Sends without blocking; an engine that does not read for long is given up."""
        if self._link is not None:
            self._link.send(message)

    async def _connect(self) -> Connection:
        """Starts the process; our end of the pipe to it."""
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe(duplex=True)
        settings = self._settings
        if self.ready is not None:  # calls wait: only what they need
            shown = {stream.avatar for stream in self._streams.values() if stream.avatar}
            settings = dataclasses.replace(settings, calibrate=False, prepare=tuple(shown))
            settings = dataclasses.replace(settings, failed_builds=self.ready.failed_builds)
        settings = dataclasses.replace(settings, avoid=dict(self._crashes.avoid))
        process = context.Process(
            target=run_engine, args=(theirs, settings), name="engine", daemon=True
        )
        process.start()
        theirs.close()
        self._process = process
        return ours

    async def _launch(self) -> EngineReady:
        connection = await self._connect()
        self._lost.clear()
        self.starting = EngineStart(self._settings.build_timeout_s)
        self._loaded = asyncio.get_running_loop().create_future()
        self._link = Link(connection, self._dispatch, self._on_lost)
        try:
            self.ready = await until_loaded(self._loaded, self.starting, PROGRESS_INTERVAL_S)
        except TimeoutError as error:
            await self._reap()
            raise EngineUnavailable(str(error)) from None
        except EngineUnavailable:
            await self._reap()
            raise
        self.state = "ready"
        self._pong_at = time.monotonic()
        logger.info(
            "engine: ready pid=%s model=%s backend=%s hop_frames=%s hop_ms=%.1f",
            self.pid,
            self.ready.model,
            self.ready.backend,
            self.ready.hop_frames,
            self.ready.hop_ms,
        )
        self._tell_choice(self.ready)
        for stream in list(self._streams.values()):
            stream.open()
        return self.ready

    async def _supervise(self) -> None:
        failures = 0
        while True:
            await self._watch()
            self.state = "restarting"
            self.restarts += 1
            logger.error("engine: restarting, pid was %s", self.pid)
            self._note_crash()
            for stream in list(self._streams.values()):
                stream.lost()
            await self._reap()
            while True:
                await asyncio.sleep(BACKOFF_S[min(failures, len(BACKOFF_S) - 1)])
                try:
                    await self._launch()
                except EngineUnavailable as error:
                    failures += 1
                    logger.error("engine: %s", error)
                    self._crashes.forgive()
                else:
                    failures = 0
                    break

    def _take_change(self, ready: EngineReady) -> None:
        before, self.ready = self.ready, ready
        if before is None or ready.choice != before.choice:
            self._tell_choice(ready)

    def _tell_choice(self, ready: EngineReady) -> None:
        choice = ready.choice
        if choice is not None:
            level = logging.WARNING if choice.reason == "broken" else logging.INFO
            logger.log(level, "engine: backend=%s, because %s", ready.backend, choice.why)

    def _note_crash(self) -> None:
        choice = self.ready.choice if self.ready is not None else None
        if choice is None or choice.asked:  # a backend that was named runs, or none
            return
        if self._crashes.note(choice.name, time.monotonic()):
            why = self._crashes.avoid[choice.name]
            logger.warning("engine: backend %s gives way to the next best: %s", choice.name, why)

    async def _watch(self) -> None:
        """Returns when the engine is gone or silent."""
        while not self._lost.is_set():
            self.send(Ping(time.monotonic_ns()))
            try:
                await asyncio.wait_for(self._lost.wait(), PING_INTERVAL_S)
            except TimeoutError:
                if time.monotonic() - self._pong_at > SILENT_S:
                    logger.error("engine: silent for %.0f s, pid=%s", SILENT_S, self.pid)
                    return

    async def _reap(self) -> None:
        """Makes sure that the process is gone and its connection closed, cancelled or not."""
        await asyncio.shield(self._reap_once())

    async def _reap_once(self) -> None:
        async with self._reaping:
            process, link = self._process, self._link
            if process is not None:
                grace = STOP_TIMEOUT_S if self.state == "stopped" else 0.0
                await asyncio.get_running_loop().run_in_executor(None, _end, process, grace)
            if link is not None:
                link.close()
            self._process = self._link = None

    def _on_lost(self, reason: str) -> None:
        if self.state == "ready":
            logger.error("engine: %s, pid=%s", reason, self.pid)
        self._lost.set()
        if self._loaded is not None and not self._loaded.done():
            self._loaded.set_exception(
                EngineUnavailable("the engine process ended while it was loading")
            )

    def _dispatch(self, message: FromEngine) -> None:
        loaded = self._loaded
        match message:
            case EngineReady():
                if loaded is not None and not loaded.done():
                    loaded.set_result(message)
                else:
                    self._take_change(message)
            case PlanEvent():
                self.starting.note(message)
            case EngineFailed():
                if loaded is not None and not loaded.done():
                    loaded.set_exception(EngineUnavailable(message.message))
            case Pong():
                self._pong_at = time.monotonic()
                self.busy, self.rss_bytes = message.busy, message.rss_bytes
                self.counts = message.counts
            case SessionOpened():
                logger.info("session=%s engine: stream open", message.session[:8])
            case HopReady() | SlotTaken() | SessionDeferred() | SessionMayOpen() | SessionFailed():
                stream = self._streams.get(message.session)
                if stream is not None:
                    stream.take(message)


def _end(process: BaseProcess, grace_s: float) -> None:
    """Waits for a process, then asks it to go, then kills it."""
    process.join(grace_s)
    if process.is_alive():
        process.terminate()
        process.join(1.0)
    if process.is_alive():
        process.kill()
        process.join()
    process.close()
