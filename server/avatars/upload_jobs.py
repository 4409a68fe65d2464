"""What uploads have come to, written where every gateway process of this server can read it."""

from __future__ import annotations

import contextlib
import json
import logging
import re
import shutil
import time
from pathlib import Path
from typing import Literal

from engine.errors import LipwireError

logger = logging.getLogger(__name__)

JOB = re.compile(r"[0-9a-f]{32}")
JOBS_KEPT_S = 3600

JobState = Literal["waiting", "working", "done", "failed"]


class UploadRefused(LipwireError):
    """An upload that is not taken, or is not known.

    Attributes:
        status, code: of the HTTP answer.
    """

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code


class UploadJobs:
    """The uploads of the last hour.

    Args:
        folder: where they are worked on.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._unwritten: dict[str, dict[str, object]] = {}  # this process alone can tell

    def write(self, job: str, state: JobState, percent: int, message: str) -> None:
        """Notes what a job has come to, on a full disk in memory."""
        body: dict[str, object] = {
            "job": job, "state": state, "percent": percent, "message": message
        }  # fmt: skip
        path = self._folder / f"{job}.json"
        part = path.with_suffix(".new")
        try:
            part.write_text(json.dumps(body), encoding="utf-8")
            part.replace(path)
            self._unwritten.pop(job, None)
        except OSError as error:
            logger.error("upload %s: its state cannot be written: %s", job[:8], error.strerror)
            with contextlib.suppress(OSError):
                part.unlink(missing_ok=True)
            self._unwritten[job] = body

    def describe(self, job: str) -> dict[str, object]:
        """State, percent and message of a job.

        Raises:
            UploadRefused: there is none of that id.
        """
        if job in self._unwritten:
            return self._unwritten[job]
        if JOB.fullmatch(job):
            with contextlib.suppress(OSError, ValueError):
                text = (self._folder / f"{job}.json").read_text(encoding="utf-8")
                described: dict[str, object] = json.loads(text)
                return described
        raise UploadRefused(404, "unknown_job", "there is no such upload, or it is long done")

    def forget_old(self) -> None:
        """Removes what ended, or was killed in the middle, long ago."""
        for path in self._folder.iterdir():
            with contextlib.suppress(OSError):
                if time.time() - path.stat().st_mtime > JOBS_KEPT_S:
                    if path.is_dir():
                        shutil.rmtree(path, ignore_errors=True)
                    else:
                        path.unlink()
                    self._unwritten.pop(path.stem, None)
