"""Many videos through several processes, none of which can take the run down.

What became of a video is written when all of its clips are: a run that is killed goes on with
the videos that have no such record, and ends with what it would have ended with. When a process
dies, its video is tried once more, then reported.
"""

from __future__ import annotations

import logging
import multiprocessing
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Final

from engine.errors import ConfigError, LipwireError
from training.prepare.files import write_text
from training.prepare.one_source import StageClock, Tools, prepare_source, rejected
from training.prepare.records import Prepared
from training.prepare.settings import Settings
from training.prepare.sources import Source
from training.prepare.tools import ToolPlan

log = logging.getLogger(__name__)

RECORDS: Final = "sources"
CLIPS: Final = "clips"
TRIES: Final = 2
_TELL_EVERY_S: Final = 1.0  # of video worked through

Advance = Callable[[float], None]


@dataclass(frozen=True, slots=True)
class Job:
    """What every process of a run needs to know."""

    settings: Settings
    tools: ToolPlan
    folder: Path


@dataclass(frozen=True, slots=True)
class Finished:
    """A process has written the record of its video."""

    spent_s: dict[str, float]


@dataclass(frozen=True, slots=True)
class Stopped:
    """A process can't go on, whatever the video."""

    reason: str


Message = float | Finished | Stopped  # a number: seconds of video worked through


@dataclass(slots=True)
class Worker:
    """One process and the video that it has in work.

    Attributes:
        begun: it has sent something, so that it can work at all.
    """

    process: BaseProcess
    connection: Connection[Source | None, Message]
    source: Source | None = None
    begun: bool = False


@dataclass(slots=True)
class Progress:
    """How far a run is.

    Attributes:
        spent_s: seconds of work by stage.
        tries: of videos whose process died.
    """

    waiting: deque[Source]
    advance: Advance
    spent_s: dict[str, float] = field(default_factory=dict)
    tries: dict[str, int] = field(default_factory=dict)


def record_path(folder: Path, source: Source) -> Path:
    """Where it is written down what became of a source."""
    return folder / RECORDS / f"{source.key}.json"


def read_record(folder: Path, source: Source) -> Prepared | None:
    """What became of a source in an earlier run; None: nothing yet, or the file was replaced."""
    path = record_path(folder, source)
    if not path.is_file():
        return None
    prepared = Prepared.from_json(path.read_text(encoding="utf-8"))
    return prepared if prepared.bytes == source.bytes else None


def run_sources(
    sources: Sequence[Source], job: Job, processes: int, advance: Advance
) -> dict[str, float]:
    """Prepares sources and leaves a record of each.

    Args:
        advance: called with seconds of video worked through, PASSES times a video's length.

    Returns:
        Seconds of work by stage.

    Raises:
        ConfigError: processes cannot work, or clips cannot be written.
    """
    for name in (RECORDS, CLIPS):
        (job.folder / name).mkdir(parents=True, exist_ok=True)
    for stale in (job.folder / RECORDS).glob("*.part"):
        stale.unlink()
    progress = Progress(deque(sources), advance)
    workers = [_start(job) for _ in range(min(processes, len(sources)))]
    try:
        for worker in workers:
            _give(worker, progress)
        while busy := {worker.connection: worker for worker in workers if worker.source}:
            for connection in wait(list(busy)):
                assert isinstance(connection, Connection)
                worker = busy[connection]
                try:
                    message = worker.connection.recv()
                except (EOFError, ConnectionResetError):
                    workers.remove(worker)
                    _mourn(worker, job, progress)
                    workers.append(_start(job))
                    _give(workers[-1], progress)
                else:
                    _hear(message, worker, progress)
    finally:
        for worker in workers:
            worker.process.terminate()
            worker.process.join()
    return progress.spent_s


def _start(job: Job) -> Worker:
    context = multiprocessing.get_context("spawn")
    mine, theirs = context.Pipe()
    process = context.Process(target=serve, args=(job, theirs), daemon=True)
    process.start()
    theirs.close()  # so that only the process holds it, and its death shows
    return Worker(process, mine)


def _give(worker: Worker, progress: Progress) -> None:
    """The next video, if there is one."""
    worker.source = progress.waiting.popleft() if progress.waiting else None
    if worker.source is not None:
        worker.connection.send(worker.source)


def _hear(message: Message, worker: Worker, progress: Progress) -> None:
    worker.begun = True
    if isinstance(message, Stopped):
        raise ConfigError(message.reason)
    if isinstance(message, Finished):
        for stage, seconds in message.spent_s.items():
            progress.spent_s[stage] = progress.spent_s.get(stage, 0.0) + seconds
        _give(worker, progress)
    else:
        progress.advance(message)


def _mourn(worker: Worker, job: Job, progress: Progress) -> None:
    """Sees to the video of a process that died."""
    source = worker.source
    assert source is not None
    worker.process.join()
    if not worker.begun:
        raise ConfigError(f"a process cannot start, it ended with {worker.process.exitcode}")
    tries = progress.tries.get(source.name, 0) + 1
    progress.tries[source.name] = tries
    log.warning("%s: its process ended with %s", source.name, worker.process.exitcode)
    if tries < TRIES:
        progress.waiting.appendleft(source)
    else:
        reason = f"ended its process: exit status {worker.process.exitcode}"
        _record(job.folder, source, rejected(source, "check", reason))


def serve(job: Job, connection: Connection[Message, Source | None]) -> None:
    """The life of a process: video after video, until whoever started it ends."""
    try:
        try:
            tools = job.tools.open()
            connection.send(0.0)
            while (source := connection.recv()) is not None:
                connection.send(_prepare_and_record(source, job, tools, connection))
        except (LipwireError, OSError) as error:  # a full disk is no video's fault
            connection.send(Stopped(str(error)))
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return


def _prepare_and_record(
    source: Source, job: Job, tools: Tools, connection: Connection[Message, Source | None]
) -> Finished:
    clock = StageClock()
    told = _Teller(connection)
    prepared = _prepare_anew(source, job, tools, clock, told.add)
    _record(job.folder, source, prepared)
    told.flush()
    return Finished(clock.spent_s)


def _prepare_anew(
    source: Source, job: Job, tools: Tools, clock: StageClock, advance: Advance
) -> Prepared:
    for stale in (job.folder / CLIPS).glob(f"{source.key}-*"):
        stale.unlink()
    try:
        return prepare_source(source, job.settings, tools, job.folder, clock, advance)
    except OSError:
        raise
    except Exception as error:
        log.exception("%s failed", source.name)
        return rejected(source, "check", f"failed: {error!r}")


def _record(folder: Path, source: Source, prepared: Prepared) -> None:
    write_text(record_path(folder, source), prepared.to_json())


class _Teller:
    """Tells how far the work is, now and then."""

    def __init__(self, connection: Connection[Message, Source | None]) -> None:
        self._connection = connection
        self._untold_s = 0.0

    def add(self, seconds: float) -> None:
        self._untold_s += seconds
        if self._untold_s >= _TELL_EVERY_S:
            self.flush()

    def flush(self) -> None:
        self._connection.send(self._untold_s)
        self._untold_s = 0.0
