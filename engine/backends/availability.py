"""What is known of a backend before and after it was tried, as data that people can be shown.

A backend is ready or absent, or would be ready if its plans were built, and that may take longer
than a server can wait. Of those that are ready the first one that opens the model and passes its
trial runs it; the better ones that were passed over say why.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

AbsentReason = Literal["not_installed", "no_files", "no_device", "driver", "unsupported"]
PassedReason = AbsentReason | Literal["failed", "crashed", "building", "no_plan"]
# Of the one that runs: nothing better was looked for, it was named, or what became of better ones.
ChoiceReason = Literal["best", "asked", "building", "broken", "absent"]

# These need a person: what is merely not there is how most machines are.
BROKEN_REASONS: frozenset[PassedReason] = frozenset({"driver", "failed", "crashed"})

_NVIDIA_CONTROL = Path("/dev/nvidiactl")  # made by NVIDIA's kernel driver


@dataclass(frozen=True, slots=True)
class Ready:
    """Everything that the backend needs is there.

    Attributes:
        detail: version and device.
    """

    detail: str


@dataclass(frozen=True, slots=True)
class Absent:
    """Something that the backend needs is not there.

    Attributes:
        reason: for programs.
        detail: what is missing.
        remedy: what to do.
    """

    reason: AbsentReason
    detail: str
    remedy: str


Availability = Ready | Absent


@dataclass(frozen=True, slots=True)
class NeedsPlan:
    """A backend that runs compiled plans, which are built where the cache has none.

    Attributes:
        build_s: about how long building all of them takes.
    """

    build_s: float


@dataclass(frozen=True, slots=True)
class PassedOver:
    """A better backend than the one that runs, and why it does not run.

    Attributes:
        name: as `auto` calls it: torch comes twice, as "torch-cuda" and "torch-cpu".
        reason: for programs; "failed" raised when it was opened or tried, "crashed" took its
            process with it; "building": its plan is being built, and it takes over then;
            "no_plan": its plan is not there and nobody builds it.
    """

    name: str
    reason: PassedReason
    detail: str
    remedy: str

    @property
    def broken(self) -> bool:
        """It should run here: somebody has to look."""
        return self.reason in BROKEN_REASONS


@dataclass(frozen=True, slots=True)
class BackendChoice:
    """Which backend runs, and why.

    Attributes:
        name: as `PassedOver.name`.
        asked: it was named; False: the best that works was asked for.
        passed: the better ones, best first.
    """

    name: str
    asked: bool
    passed: Sequence[PassedOver] = ()

    @property
    def reason(self) -> ChoiceReason:
        """Why this one runs, for programs."""
        if any(item.reason == "building" for item in self.passed):
            return "building"
        if any(item.broken for item in self.passed):
            return "broken"
        if self.asked:
            return "asked"
        return "absent" if self.passed else "best"

    @property
    def why(self) -> str:
        """The end of the sentence "runs on NAME because"."""
        return self._because(lambda item: f"{item.name} does not work: {item.detail}")

    @property
    def summary(self) -> str:
        """The same for anybody: without what libraries said, which may name files."""
        return self._because(lambda item: f"{item.name} does not work ({item.reason})")

    def _because(self, told: Callable[[PassedOver], str]) -> str:
        match self.reason:
            case "building":
                name = next(item.name for item in self.passed if item.reason == "building")
                return f"the plan for {name} is being built, which takes over then"
            case "broken":
                return "; ".join(told(item) for item in self.passed if item.broken)
            case "asked":
                return "it was asked for"
            case "absent":
                absent = ", ".join(f"no {item.name}" for item in self.passed)
                return f"it is the best that this machine has ({absent})"
            case "best":
                return "it is the best"


def nvidia_driver_loaded() -> bool:
    """Whether this machine has NVIDIA's kernel driver, so that a GPU is expected to work."""
    return _NVIDIA_CONTROL.exists()
