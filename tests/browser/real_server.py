"""What the browser tests run against: a server process, and a known speech."""

from __future__ import annotations

import json
import os
import signal
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

F64 = NDArray[np.float64]

REPOSITORY = Path(__file__).resolve().parents[2]
AVATARS = REPOSITORY / "engine" / "bundled" / "avatars"
MICROPHONE_HZ = 48_000
POLL_S = 0.05


@dataclass(frozen=True, slots=True)
class Speech:
    """What the fake microphone says, over and over.

    Attributes:
        samples: float [n] at 48 kHz, one turn of the loop.
    """

    path: Path
    samples: F64

    @property
    def seconds(self) -> float:
        return len(self.samples) / MICROPHONE_HZ

    def loudness(self, times_s: F64, width_s: float) -> F64:
        """Root mean square over `width_s` around the given times, the loop unrolled."""
        half = int(width_s * MICROPHONE_HZ / 2)
        unrolled = np.concatenate([self.samples[-half:], self.samples, self.samples[:half]])
        energy = np.concatenate([[0.0], np.cumsum(unrolled**2)])
        first = (times_s * MICROPHONE_HZ).astype(int) % len(self.samples)
        level: F64 = np.sqrt((energy[first + 2 * half] - energy[first]) / (2 * half))
        return level


@dataclass(frozen=True, slots=True)
class Server:
    """A running `lipwire serve`."""

    url: str
    log: Path
    pid: int

    @contextmanager
    def out_of_reach(self) -> Iterator[None]:
        """The server neither sends nor answers, as when a cable is pulled."""
        os.kill(self.pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(self.pid, signal.SIGCONT)

    def count_sessions(self) -> int:
        with urllib.request.urlopen(f"{self.url}/v1/status", timeout=5) as response:
            return int(json.load(response)["sessions"]["active"])

    def wait_until_free(self, seconds: float = 5.0) -> None:
        """Returns once no session is left.

        Raises:
            AssertionError: there still is one after `seconds`.
        """
        wait_until(lambda: self.count_sessions() == 0, seconds, "the session to be freed")


def wait_until(condition: Callable[[], bool], seconds: float, what: str) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"waited {seconds} s for {what}"
        time.sleep(POLL_S)
