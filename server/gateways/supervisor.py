"""Several gateways behind one port: starts and replaces them, and gives out their places.

The supervisor runs the engine and holds no call. All gateways accept from one socket and share
the engine. A gateway that dies or falls silent costs its own calls a reconnect: their places are
free at once, their shared memory is removed, the engine lets their streams go, and another process
takes the gateway's place. The others do not notice.
"""

from __future__ import annotations

import asyncio
import logging
import math
import multiprocessing
import shutil
import socket
import tempfile
import time
from multiprocessing.process import BaseProcess
from pathlib import Path

from engine.errors import LipwireError
from server.access.client_limits import ClientLimited
from server.access.tickets import TakenTickets
from server.avatars.library import AvatarLibrary
from server.capacity.admission import ServerFull
from server.capacity.gateway_calibration import measure_call_ms
from server.capacity.machine import measured_capacity
from server.capacity.places import OwnPlaces, usable_cores
from server.config import Settings
from server.engine_link.frame_block import remove_blocks_of
from server.engine_link.host import EngineHost
from server.engine_link.link import Link
from server.engine_link.messages import EngineReady
from server.engine_link.settings import engine_settings
from server.gateways.http_client import gateway_socket
from server.gateways.messages import (
    Alive,
    CallCosts,
    Drain,
    EnterPlace,
    GatewayFailed,
    GatewayReady,
    GatewayState,
    LateHops,
    LeavePlace,
    PlaceGiven,
    PlaceRefused,
    ServerState,
    TakeTicket,
    TicketAnswer,
    ToSupervisor,
)
from server.gateways.process import run_gateway

logger = logging.getLogger(__name__)

START_TIMEOUT_S = 60.0
START_TRIES = 2
SILENT_S = 10.0  # a gateway without a sign of life for this long is killed
WATCH_INTERVAL_S = 1.0
END_TIMEOUT_S = 10.0  # to close what is left when calls are over
BACKOFF_S = (0.0, 1.0, 2.0, 5.0, 10.0)
STEADY_S = 60.0  # a gateway that lived this long has not failed to start


class GatewayUnavailable(LipwireError):
    """A gateway process could not be started."""


class Worker:
    """One gateway's place: its process of now, and what it holds.

    Attributes:
        up: it takes requests.
        sessions: ids of its calls.
        call_ms: what a call costs it, once it has said so.
        heard_at: its last sign of life; in the future while it starts.
        changed: set when it is up, lost or cannot start.
        lost: why its process is to be replaced.
        failure: why it could not start.
    """

    def __init__(self, index: int) -> None:
        self.index = index
        self.process: BaseProcess | None = None
        self.link: Link | None = None
        self.up = False
        self.restarts = 0
        self.sessions: set[str] = set()
        self.call_ms: float | None = None
        self.heard_at = 0.0
        self.changed = asyncio.Event()
        self.lost: str | None = None
        self.failure: str | None = None

    def lose(self, reason: str) -> None:
        if self.lost is None:
            self.lost = reason
        self.changed.set()


class Supervisor:
    """Runs the engine and the gateways.

    Args:
        sock: where clients come in.
        core: "module:callable" of another engine core than the settings' own.
    """

    def __init__(self, settings: Settings, sock: socket.socket, core: str | None = None) -> None:
        self._settings = settings
        self._sock = sock
        self._folder = Path(tempfile.mkdtemp(prefix="lipwire-"))  # for its user only
        self._engine_settings = engine_settings(settings, core, self._folder / "engine.sock")
        self.host = EngineHost(self._engine_settings)
        self.places = OwnPlaces(settings)
        self._tickets = TakenTickets()
        self._workers: list[Worker] = []
        self._tasks: list[asyncio.Task[None]] = []
        self._stopping = False

    @property
    def gateway_pids(self) -> list[int | None]:
        """Process ids by gateway."""
        return [worker.process.pid if worker.process else None for worker in self._workers]

    async def start(self) -> None:
        """Starts the engine, then the gateways, and returns when all take requests.

        Raises:
            EngineUnavailable: the engine says why it cannot run.
            GatewayUnavailable: a gateway does.
        """
        ready = await self.host.start()
        self._workers = [Worker(index) for index in range(await self._gateways(ready))]
        self._tasks = [
            asyncio.create_task(self._run(worker), name=f"gateway-{worker.index}")
            for worker in self._workers
        ]
        self._tasks.append(asyncio.create_task(self._watch(), name="gateway-watch"))
        for worker in self._workers:
            while not worker.up:
                if worker.failure is not None:
                    raise GatewayUnavailable(worker.failure)
                if worker.restarts == START_TRIES:
                    raise GatewayUnavailable(
                        f"gateway-{worker.index} ended {START_TRIES} times while it was starting; "
                        "its log says why"
                    )
                await worker.changed.wait()
                worker.changed.clear()
        logger.info("supervisor: %d gateways, pids %s", len(self._workers), self.gateway_pids)

    async def drain(self, timeout_s: float) -> None:
        """Takes no new calls and returns when all have ended or time is up; 0 ends them at once."""
        self._stopping = True
        for worker in self._workers:
            if worker.link is not None:
                worker.link.send(Drain(timeout_s))
        processes = [worker.process for worker in self._workers if worker.process is not None]
        deadline = time.monotonic() + timeout_s + END_TIMEOUT_S
        while any(process.is_alive() for process in processes) and time.monotonic() < deadline:
            await asyncio.sleep(0.05)

    async def stop(self) -> None:
        """Ends every gateway and the engine."""
        self._stopping = True
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.gather(*(self._bury(worker) for worker in self._workers))
        await self.host.stop()
        shutil.rmtree(self._folder, ignore_errors=True)

    async def _gateways(self, ready: EngineReady) -> int:
        """How many gateways there are to be: as set, or as many as the engine can feed."""
        if self._settings.gateways:
            return self._settings.gateways
        if not ready.hop_costs:
            return 1
        infos = AvatarLibrary(self._settings.avatar_path).infos()
        clip = next((info.folder / "clip.mp4" for info in infos), None)
        call_ms = await asyncio.to_thread(measure_call_ms, clip)
        one = measured_capacity(ready.hop_costs, ready.hop_frames, call_ms, 1, usable_cores())
        wanted = math.ceil(min(one.engine, one.cores) / one.gateways)
        return min(max(wanted, 1), usable_cores())

    async def _run(self, worker: Worker) -> None:
        """Keeps a gateway running."""
        failures = 0
        while not self._stopping:
            await asyncio.sleep(BACKOFF_S[min(failures, len(BACKOFF_S) - 1)])
            began = time.monotonic()
            self._spawn(worker)
            while worker.lost is None:
                await worker.changed.wait()
                worker.changed.clear()
            if self._stopping:
                return
            failures = 0 if time.monotonic() - began > STEADY_S else failures + 1
            pid = worker.process.pid if worker.process else None
            logger.error(
                "supervisor: gateway-%d %s, pid=%s, %d calls lost, starting another",
                worker.index, worker.lost, pid, len(worker.sessions),
            )  # fmt: skip
            worker.restarts += 1
            await self._bury(worker)
            worker.changed.set()

    def _spawn(self, worker: Worker) -> None:
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe(duplex=True)
        gateway_socket(self._folder, worker.index).unlink(missing_ok=True)
        process = context.Process(
            target=run_gateway,
            args=(
                theirs, self._sock, self._settings, self._engine_settings, worker.index,
                self._folder,
            ),
            name=f"gateway-{worker.index}",
        )  # fmt: skip
        process.start()
        theirs.close()
        worker.process = process
        worker.lost = None
        worker.heard_at = time.monotonic() + START_TIMEOUT_S
        worker.link = Link(ours, lambda message: self._take(worker, message), worker.lose)

    async def _bury(self, worker: Worker) -> None:
        """Makes sure that a gateway is gone, with everything it held."""
        worker.up = False
        for session in worker.sessions:
            self.places.leave(session)
        worker.sessions.clear()
        if worker.link is not None:
            worker.link.close()
            worker.link = None
        self._tell_state()
        process, worker.process = worker.process, None
        if process is not None:
            pid = process.pid
            process.kill()
            await asyncio.get_running_loop().run_in_executor(None, process.join)
            process.close()
            if pid is not None:
                remove_blocks_of(pid)

    async def _watch(self) -> None:
        """Finds gateways that are silent, and keeps everybody's picture of the server fresh."""
        while True:
            await asyncio.sleep(WATCH_INTERVAL_S)
            for worker in self._workers:
                if worker.process is not None and time.monotonic() - worker.heard_at > SILENT_S:
                    worker.lose("is silent")
            self._tell_state()

    def _take(self, worker: Worker, message: ToSupervisor) -> None:
        match message:
            case Alive():
                worker.heard_at = max(worker.heard_at, time.monotonic())
                return
            case TakeTicket():
                assert worker.link is not None
                fresh = self._tickets.take_now(message.name, message.issued, message.until)
                worker.link.send(TicketAnswer(message.number, fresh))
                return
            case GatewayReady():
                worker.up = True
                worker.heard_at = time.monotonic()
                worker.changed.set()
            case GatewayFailed():
                worker.failure = message.message
                worker.lose("cannot start")
            case EnterPlace():
                self._enter(worker, message)
            case LeavePlace():
                self.places.leave(message.session)
                worker.sessions.discard(message.session)
            case LateHops():
                self.places.note_late(message.hops)
            case CallCosts():
                worker.call_ms = message.call_ms
                self._set_capacity()
        self._tell_state()

    def _enter(self, worker: Worker, asked: EnterPlace) -> None:
        assert worker.link is not None
        if len(worker.sessions) >= self._most_of_one():  # another one has the room
            worker.link.send(PlaceRefused(asked.session, 1, self.places.limit))
            return
        try:
            self.places.admission.enter(asked.session, asked.client)
        except ServerFull as error:
            worker.link.send(PlaceRefused(asked.session, error.retry_after_s, self.places.limit))
        except ClientLimited as error:
            worker.link.send(
                PlaceRefused(
                    asked.session, error.retry_after_s, code=error.code, message=str(error)
                )
            )
        else:
            worker.sessions.add(asked.session)
            worker.link.send(PlaceGiven(asked.session))

    def _most_of_one(self) -> float:
        """Calls that one gateway holds: beyond them it fails by a cliff, whatever others hold."""
        capacity = self.places.capacity
        return math.inf if capacity is None else capacity.gateways / len(self._workers)

    def _set_capacity(self) -> None:
        """The dearest gateway decides: calls go to any of them."""
        if self.host.ready is not None:
            call_ms = max(worker.call_ms or 0.0 for worker in self._workers)
            self.places.set_capacity(self.host.ready, call_ms, len(self._workers))

    def _tell_state(self) -> None:
        state = ServerState(
            gateways=tuple(
                GatewayState(worker.index, worker.up, len(worker.sessions), worker.restarts)
                for worker in self._workers
            ),
            taken=self.places.taken,
            limit=self.places.limit,
            capacity=self.places.capacity,
            engine_restarts=self.host.restarts,
        )
        for worker in self._workers:
            if worker.link is not None:
                worker.link.send(state)
