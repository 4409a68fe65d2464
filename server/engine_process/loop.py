"""The engine's own process: one loop that feeds streams and hands frames back.

It owns the model and never sees a network. Messages come in over one
connection for each gateway, pictures over the shared memory of each session.
It ends when its owner, the process that started it, says so or is gone (end of
file); with any other gateway go that gateway's sessions and nothing else.
"""

from __future__ import annotations

import dataclasses
import gc
import importlib
import logging
import resource
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable
from multiprocessing.connection import Connection

import cv2
import numpy as np

from engine.errors import ConfigError, LipwireError
from engine.media import FRAME_SAMPLES
from server.engine_link.frame_block import FrameBlock
from server.engine_link.messages import (
    CloseSession,
    EngineCounts,
    EngineFailed,
    EngineSettings,
    FrameReady,
    HopReady,
    Interrupt,
    OpenSession,
    Ping,
    Pong,
    PushAudio,
    PushVideo,
    ReleaseSlot,
    SessionDeferred,
    SessionFailed,
    SessionMayOpen,
    SessionOpened,
    SlotTaken,
    Stop,
    ToEngine,
)
from server.engine_link.start import PlanTeller
from server.engine_process.connections import EngineConnections, OwnerGone
from server.engine_process.core import EngineCore, SessionFrames
from server.logs import configure_logging

logger = logging.getLogger(__name__)

STEPS_BEFORE_OTHERS = 2  # batches of hops, before a little is done for sessions that wait
UNEXPECTED = "the engine could not go on with this call; the server's log says why"


def run_engine(connection: Connection, settings: EngineSettings) -> None:
    """Entry point of the process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the group; the gateway decides
    configure_logging(settings.log_level, settings.log_format)
    cv2.setNumThreads(1)  # threads that wait for each other lose more than they win on a busy CPU
    teller = PlanTeller(connection)
    if settings.plans is not None:
        settings = dataclasses.replace(
            settings, plans=dataclasses.replace(settings.plans, watcher=teller)
        )
    try:
        core = load_core(settings)
        ready = core.describe()
        teller.stop()
        gc.freeze()  # a full collection of what is loaded took 21 ms, more than a hop of one frame
    except LipwireError as error:
        connection.send(EngineFailed(type(error).__name__, str(error)))
        return
    gateways = EngineConnections(connection, settings.listen, ready)
    loop = EngineLoop(gateways, core)
    try:
        loop.run()
    except OwnerGone:
        logger.info("engine: the process that started it is gone")
    finally:
        loop.close()
        gateways.close()


def load_core(settings: EngineSettings) -> EngineCore:
    """The core that `settings.core` names as "module:callable".

    Raises:
        ConfigError: there is no such callable.
    """
    module_name, _, name = settings.core.partition(":")
    try:
        factory: Callable[[EngineSettings], EngineCore] = getattr(
            importlib.import_module(module_name), name
        )
    except (ImportError, AttributeError) as error:
        raise ConfigError(
            f"expected an engine core as module:callable, got {settings.core!r}: {error}"
        ) from error
    return factory(settings)


class _Session:
    """One session's memory and how its indices map to the session's frames."""

    def __init__(self, request: OpenSession, gateway: Connection) -> None:
        self.gateway = gateway
        self.first_frame = request.first_frame
        self.block = FrameBlock.attach(request.block, request.slot_bytes)
        self.free = list(range(request.input_slots, request.input_slots + request.output_slots))


class EngineLoop:
    """Moves messages into the core and its frames out."""

    def __init__(self, gateways: EngineConnections, core: EngineCore) -> None:
        self._gateways = gateways
        self._core = core
        self._sessions: dict[str, _Session] = {}
        self._running = True
        self._busy_s = 0.0
        self._batches: Counter[int] = Counter()
        self._began = time.monotonic()
        self._told_busy: dict[Connection, tuple[float, float]] = {}
        self._deferred: dict[str, tuple[Connection, OpenSession]] = {}

    def run(self) -> None:
        """Works until told to stop.

        Raises:
            OwnerGone: the process that started this one is gone.
        """
        wait_s: float | None = None
        busy_steps = 0
        while self._running:
            for gateway, message in self._gateways.receive(wait_s):
                self._handle(gateway, message)
            for gateway in self._gateways.take_lost():
                self._leave(gateway)
            if self._step():
                wait_s = 0.0
                busy_steps += 1
            else:
                wait_s = None
                busy_steps = STEPS_BEFORE_OTHERS
            if self._deferred and busy_steps >= STEPS_BEFORE_OTHERS:
                busy_steps = 0
                more_s = self._prepare()
                wait_s = more_s if wait_s is None else wait_s
            changed = self._core.changed()
            if changed is not None:
                self._gateways.greet(changed)

    def close(self) -> None:
        self._core.stop()
        for session in self._sessions.values():
            session.block.close()
        self._sessions.clear()

    def _prepare(self) -> float | None:
        """Goes on with what sessions wait for; seconds until there is more to do."""
        more_s = self._core.prepare()
        for name, (gateway, request) in list(self._deferred.items()):
            if self._core.can_open(request):
                del self._deferred[name]
                self._gateways.send(gateway, SessionMayOpen(name))
        return more_s if self._deferred else None

    def _step(self) -> bool:
        started = time.monotonic()
        results = self._core.step()
        elapsed = time.monotonic() - started
        if not results:
            return False
        self._busy_s += elapsed
        if results[0].batch:
            self._batches[results[0].batch] += 1
        for result in results:
            if result.session not in self._sessions:
                continue
            self._emit(result, elapsed * 1000)
            if result.error is not None:
                self._fail(result.session, result.error)
        return True

    def _emit(self, result: SessionFrames, compute_ms: float) -> None:
        session = self._sessions[result.session]
        ready: list[FrameReady] = []
        dropped = 0
        for frame in result.frames:
            if not session.free:
                dropped += 1
                continue
            slot = session.free.pop()
            session.block.write(slot, frame.picture)
            ready.append(
                FrameReady(
                    slot=slot,
                    index=frame.index + session.first_frame,
                    width=frame.picture.width,
                    height=frame.picture.height,
                    generation=frame.generation,
                    synced=frame.synced,
                )
            )
        self._gateways.send(
            session.gateway,
            HopReady(
                session=result.session,
                frames=tuple(ready),
                compute_ms=compute_ms,
                late_hops=result.late_hops,
                dropped=dropped,
                closed_frames=result.closed_frames,
                next_hop_frames=result.next_hop_frames,
            ),
        )

    def _handle(self, gateway: Connection, message: ToEngine) -> None:
        match message:
            case PushAudio() | PushVideo() | Interrupt() | ReleaseSlot():
                if message.session in self._sessions:
                    self._feed(message)
            case OpenSession():
                self._defer_or_open(message, gateway)
            case CloseSession():
                self._drop(message.session)
            case Ping():
                self._gateways.send(gateway, self._pong(gateway, message.stamp))
            case Stop():
                self._running = False

    def _leave(self, gateway: Connection) -> None:
        """Ends what a gateway that is gone had here."""
        self._told_busy.pop(gateway, None)
        names = [name for name, own in self._sessions.items() if own.gateway is gateway]
        logger.warning("engine: a gateway is gone, and %d sessions with it", len(names))
        names += [name for name, (own, _) in self._deferred.items() if own is gateway]
        for name in names:
            self._drop(name)

    def _defer_or_open(self, request: OpenSession, gateway: Connection) -> None:
        if self._core.can_open(request):
            self._open(request, gateway)
            return
        self._deferred[request.session] = (gateway, request)
        self._gateways.send(gateway, SessionDeferred(request.session))

    def _open(self, request: OpenSession, gateway: Connection) -> None:
        try:
            self._core.open(request)
            self._sessions[request.session] = _Session(request, gateway)
        except LipwireError as error:
            self._refuse(gateway, request.session, error)
        except FileNotFoundError:  # closed again before it was opened here
            self._core.close(request.session)
        except Exception as error:  # noqa: BLE001 (a session's top level: logged, and ended)
            self._core.close(request.session)
            self._refuse(gateway, request.session, error)
        else:
            self._gateways.send(gateway, SessionOpened(request.session))

    def _feed(self, message: PushAudio | PushVideo | Interrupt | ReleaseSlot) -> None:
        name = message.session
        session = self._sessions[name]
        try:
            match message:
                case PushAudio():
                    samples = np.frombuffer(message.samples, np.float32)
                    self._core.push_audio(name, samples, message.generation)
                case PushVideo():
                    picture = session.block.read(message.slot, message.width, message.height)
                    self._gateways.send(session.gateway, SlotTaken(name, message.slot))
                    pts = message.pts_samples - session.first_frame * FRAME_SAMPLES
                    self._core.push_video(name, picture, pts)
                case Interrupt():
                    frames = self._core.interrupt(name, message.generation)
                    if frames:
                        self._emit(SessionFrames(name, frames), 0.0)
                case ReleaseSlot():
                    session.free.append(message.slot)
        except Exception as error:  # noqa: BLE001 (a session's top level: logged, and ended)
            self._fail(name, error)

    def _fail(self, name: str, error: Exception) -> None:
        """Ends one session."""
        gateway = self._sessions[name].gateway
        self._drop(name)
        self._refuse(gateway, name, error)

    def _refuse(self, gateway: Connection, name: str, error: Exception) -> None:
        """Tells a gateway that its session is over; what it is told has no internals in it."""
        if isinstance(error, LipwireError):
            logger.warning("session=%s engine: %s", name[:8], error)
            message, code = str(error), type(error).__name__
        else:
            logger.error("session=%s engine: failed", name[:8], exc_info=error)
            message, code = UNEXPECTED, "internal"
        self._gateways.send(gateway, SessionFailed(name, code, message))

    def _drop(self, name: str) -> None:
        self._deferred.pop(name, None)
        session = self._sessions.pop(name, None)
        if session is not None:
            session.block.close()
            self._core.close(name)

    def _pong(self, gateway: Connection, stamp: int) -> Pong:
        now = time.monotonic()
        told_s, told_at = self._told_busy.get(gateway, (0.0, self._began))
        busy = (self._busy_s - told_s) / max(now - told_at, 1e-3)
        self._told_busy[gateway] = (self._busy_s, now)
        unit = 1 if sys.platform == "darwin" else 1024
        rss = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
        counts = EngineCounts(self._busy_s, time.process_time(), dict(self._batches))
        return Pong(stamp, busy, rss, tuple(self._sessions), counts)
