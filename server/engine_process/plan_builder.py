"""Builds plans beside a server that runs: `lipwire plans build` in a process of its own.

A process, because a compiler may take gigabytes, hold Python's lock or crash. It runs at a lower
priority, hears nothing of the terminal's signals, and ends when this process does, however that
ends: its standard input is a pipe of ours.
"""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import threading
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from engine.checkpoints import resolve_model
from engine.errors import PlanError
from server.engine_link.messages import EngineSettings
from server.engine_link.plan_counts import PlanCounts

logger = logging.getLogger(__name__)

NICENESS = 10
STOP_TIMEOUT_S = 2.0
ROOT = Path(__file__).resolve().parents[2]


def build_command(settings: EngineSettings, candidate: str) -> list[str]:
    """What builds the plans that an engine with these settings opens for a backend.

    Args:
        candidate: as `engine.backends.select` calls it.
    """
    assert settings.plans is not None
    options: dict[str, object] = {
        "--model": resolve_model(settings.model),
        "--backend": candidate.split("-")[0],
        "--hop-frames": settings.hop_frames,
        "--plans-dir": settings.plans.folder,
        "--max-mb": settings.plans.max_bytes >> 20,
    }
    for name, value in asdict(settings.run).items():
        options["--" + name.replace("_", "-")] = value
    given = [word for name, value in options.items() if value is not None for word in (name, value)]
    # -P: a folder called "server" where the user stands is none of ours.
    words = [sys.executable, "-P", "-m", "server", "plans", "build", "--json", "--end-with-stdin"]
    return [*words, *map(str, given)]


class PlanBuilder:
    """One build in a process of its own, which has begun.

    Args:
        command: writes what it counted as JSON to its standard output, and says on its standard
            error what it does and why it fails.
        timeout_s: after which it is ended.
    """

    def __init__(self, command: Sequence[str], timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._cancelled = self._overdue = False
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            env=_environment(),
            start_new_session=True,
        )
        try:
            os.setpriority(os.PRIO_PROCESS, self._process.pid, NICENESS)
        except OSError as error:
            logger.debug("plan builder: priority unchanged: %s", error)

    @property
    def pid(self) -> int:
        return self._process.pid

    def wait(self) -> PlanCounts:
        """Waits for the end; what it says meanwhile goes into the log.

        Raises:
            PlanError: it failed, was cancelled or took too long, with its own last words.
        """
        process = self._process
        assert process.stdout is not None and process.stderr is not None
        timer = threading.Timer(self._timeout_s, self._give_up)
        timer.start()
        try:
            last = ""
            for line in process.stderr:
                last = line.strip() or last
                logger.info("plan builder: %s", line.rstrip())
            told = process.stdout.read()
            status = process.wait()
        finally:
            timer.cancel()
        if self._cancelled:
            raise PlanError("the build was cancelled")
        if self._overdue:
            raise PlanError(
                f"expected the plans to be built within {self._timeout_s:.0f} s "
                f"(plan_build_timeout_s), they were not; its last words: {last or 'none'}"
            )
        if status != 0:
            raise PlanError(last.removeprefix("lipwire: ") or f"the builder ended with {status}")
        try:
            return PlanCounts(**json.loads(told)["counts"])
        except (ValueError, KeyError, TypeError) as error:
            raise PlanError(f"expected a builder's counts, got {told[:80]!r}") from error

    def cancel(self) -> None:
        """Ends it at once; twice does no harm."""
        self._cancelled = True
        self._process.kill()

    def _give_up(self) -> None:
        self._overdue = True
        self._process.kill()


def _environment() -> dict[str, str]:
    """Ours, without settings, all of which the command has, and with the code that runs here."""
    kept = {name: text for name, text in os.environ.items() if not name.startswith("LIPWIRE_")}
    known = kept.get("PYTHONPATH")
    return {**kept, "PYTHONPATH": f"{ROOT}{os.pathsep}{known}" if known else str(ROOT)}
