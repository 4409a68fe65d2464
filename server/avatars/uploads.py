"""Avatars that clients bring: taken to a temporary file, decoded in a process of their own."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import secrets
import shutil
import sys
from collections.abc import AsyncIterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from engine.errors import MediaError
from server.avatars.building import DISK_FULL, FULL_DISK, BuildLimits, sniff
from server.avatars.library import NAME, AvatarLibrary
from server.avatars.upload_jobs import UploadJobs, UploadRefused

logger = logging.getLogger(__name__)

WORK = ".uploads"  # below the folder of uploads: no avatar's name begins with a dot
GIVEN_UP = "it was given up before it was done"
LINE_BYTES = 65_536


@dataclass(frozen=True, slots=True)
class UploadLimits:
    """
    Attributes:
        max_bytes: of a file.
        waiting: uploads at once, of which one is decoded.
        max_avatars, max_total_bytes: that are kept.
        wall_s: for decoding one.
        receive_s: for its bytes to arrive.
    """

    max_bytes: int = 64 << 20
    waiting: int = 4
    max_avatars: int = 100
    max_total_bytes: int = 2 << 30
    wall_s: float = 300.0
    receive_s: float = 300.0
    build: BuildLimits = field(default_factory=BuildLimits)


class AvatarUploads:
    """Takes, builds and removes uploaded avatars.

    Args:
        folder: where they are kept; made when the first one comes.
        library: all avatars, whose names are taken.
    """

    def __init__(self, folder: Path, library: AvatarLibrary, limits: UploadLimits) -> None:
        self.folder = folder
        self._library = library
        self._limits = limits
        self._one = asyncio.Lock()
        self._names: set[str] = set()
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._jobs = UploadJobs(folder / WORK)

    async def take(self, name: str, pieces: AsyncIterator[bytes]) -> str:
        """The id of the job that makes an avatar of the bytes.

        Raises:
            UploadRefused: the name, the size or the first bytes; too many at once; no room.
        """
        self._check(name)
        job = secrets.token_hex(16)
        work = self.folder / WORK
        source = work / f"{job}.part"
        self._names.add(name)
        try:
            work.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._jobs.forget_old()
            self._check_room()
            async with asyncio.timeout(self._limits.receive_s):
                await self._receive(source, pieces)
        except BaseException as error:
            self._names.discard(name)
            source.unlink(missing_ok=True)
            if isinstance(error, TimeoutError):
                raise UploadRefused(408, "upload_timeout", "the file took too long") from None
            if isinstance(error, OSError) and error.errno in FULL_DISK:
                raise UploadRefused(507, "disk_full", DISK_FULL) from error
            raise
        self._jobs.write(job, "waiting", 0, "")
        task = asyncio.create_task(self._build(job, name, source), name="avatar-upload")
        self._tasks[name] = task
        task.add_done_callback(lambda _: self._tasks.pop(name, None))
        return job

    def describe(self, job: str) -> dict[str, object]:
        """What a job has come to: state, percent, message.

        Raises:
            UploadRefused: there is none of that id.
        """
        return self._jobs.describe(job)

    def is_own(self, name: str) -> bool:
        """Whether an avatar was uploaded, and may be removed."""
        return NAME.fullmatch(name) is not None and (self.folder / name).is_dir()

    async def remove(self, name: str) -> None:
        """Removes an uploaded avatar, or gives up the one that is being made.

        Raises:
            AvatarError: there is none of that name.
            UploadRefused: it was not uploaded.
        """
        task = self._tasks.get(name)
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            if not self.is_own(name):
                return
        await asyncio.to_thread(self._remove_kept, name)

    async def close(self) -> None:
        """Gives up what is under way."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _remove_kept(self, name: str) -> None:
        self._library.get(name)
        if not self.is_own(name):
            raise UploadRefused(403, "not_uploaded", f"avatar {name} was not uploaded: it stays")
        gone = self.folder / WORK / secrets.token_hex(8)
        gone.parent.mkdir(exist_ok=True, mode=0o700)
        (self.folder / name).rename(gone)
        shutil.rmtree(gone, ignore_errors=True)

    def _check(self, name: str) -> None:
        if not NAME.fullmatch(name):
            raise UploadRefused(
                422, "bad_name", "expected a name of 1 to 64 letters, digits, - and _"
            )
        taken = {info.name for info in self._library.infos()}
        if name in taken or name in self._names or (self.folder / name).exists():
            raise UploadRefused(409, "name_taken", f"expected another name, {name} is taken")
        if len(self._names) >= self._limits.waiting:
            raise UploadRefused(503, "uploads_busy", "other uploads are being worked on")
        own = sum(self.is_own(known) for known in taken) + len(self._names)
        if own >= self._limits.max_avatars:
            raise UploadRefused(507, "too_many_avatars", "no room for more avatars, remove one")

    def _check_room(self) -> None:
        """
        Raises:
            UploadRefused: all that may be kept is there, or the disk could not hold one more.
        """
        if _bytes_in(self.folder) + self._limits.max_bytes > self._limits.max_total_bytes:
            limit = self._limits.max_total_bytes >> 20
            raise UploadRefused(
                507, "avatars_full", f"avatars may take {limit} MiB in all, remove one"
            )
        # The file, its clip, and what the server writes besides.
        if shutil.disk_usage(self.folder).free < 3 * self._limits.max_bytes:
            raise UploadRefused(507, "disk_full", "the server's disk is nearly full")

    async def _receive(self, source: Path, pieces: AsyncIterator[bytes]) -> None:
        size = 0
        head = b""
        descriptor = os.open(source, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            async for piece in pieces:
                size += len(piece)
                if size > self._limits.max_bytes:
                    limit = self._limits.max_bytes >> 20
                    raise UploadRefused(413, "too_large", f"expected at most {limit} MiB")
                if len(head) < 12:
                    head += piece[:12]
                    if len(head) >= 12:
                        _check_format(head)
                await asyncio.to_thread(file.write, piece)
        if len(head) < 12:
            _check_format(head)

    async def _build(self, job: str, name: str, source: Path) -> None:
        part = source.with_suffix("")
        error: str | None = GIVEN_UP
        try:
            async with self._one:
                error = await self._run(job, name, source, part)
                if error is None and (self.folder / name).exists():
                    error = f"expected another name, {name} is taken"
                if error is None:
                    part.rename(self.folder / name)
        except OSError as problem:
            logger.error("upload %s: %s", job[:8], problem)
            error = DISK_FULL if problem.errno in FULL_DISK else "the avatar could not be kept"
        finally:
            self._names.discard(name)
            source.unlink(missing_ok=True)
            shutil.rmtree(part, ignore_errors=True)
            logger.info("upload %s: %s", job[:8], "done" if error is None else "failed")
            self._jobs.write(job, "failed" if error else "done", 100, error or "")

    async def _run(self, job: str, name: str, source: Path, part: Path) -> str | None:
        """Builds within the limits; what went wrong, or None."""
        limits = json.dumps(asdict(self._limits.build))
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "server.avatars.building", source, part, name, limits,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,  # a decoder's complaints quote the file
            env=_environment(self._limits.build),
            limit=LINE_BYTES,
        )  # fmt: skip
        answer: dict[str, object] = {}
        try:
            assert process.stdout is not None
            async with asyncio.timeout(self._limits.wall_s):
                async for line in process.stdout:
                    answer = json.loads(line)
                    if "percent" in answer:
                        percent = int(str(answer["percent"]))
                        self._jobs.write(job, "working", percent, "Looking at the face")
                await process.wait()
        except TimeoutError:
            return "the file took too long to decode"
        except ValueError:
            return "the file could not be decoded"
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
            # Nothing else closes the pipe's transport before the loop ends.
            process._transport.close()  # type: ignore[attr-defined]
        if answer.get("done"):
            return None
        return str(answer.get("error", "the file could not be decoded"))


def _bytes_in(folder: Path) -> int:
    total = 0
    for path in folder.rglob("*"):
        with contextlib.suppress(FileNotFoundError):  # one that is being removed
            total += path.stat().st_size
    return total


def limits_for(
    max_bytes: int, max_total_bytes: int, max_width: int, max_height: int
) -> UploadLimits:
    """The limits that the settings ask for."""
    limits = UploadLimits(max_bytes=max_bytes, max_total_bytes=max_total_bytes)
    return replace(limits, build=replace(limits.build, max_width=max_width, max_height=max_height))


def _check_format(head: bytes) -> None:
    try:
        sniff(head)
    except MediaError as error:
        raise UploadRefused(415, "format", str(error)) from error


def _environment(limits: BuildLimits) -> dict[str, str]:
    """What the process sees: none of the server's variables, so none of its secrets."""
    kept = {name: os.environ[name] for name in ("PATH", "LD_LIBRARY_PATH") if name in os.environ}
    return kept | {
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
        "OPENCV_IO_MAX_IMAGE_PIXELS": str(limits.max_pixels),
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
        "MALLOC_ARENA_MAX": "2",
    }
