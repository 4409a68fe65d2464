"""What was compared, how far it was off, and how far it may be."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np

# Stands for a stored value that a folder leaves out: there is nothing to compare then.
ABSENT: Final = object()


@dataclass(frozen=True, slots=True)
class Check:
    """One comparison.

    Attributes:
        case: the fixture file and, where there is one, the subcase.
        quantity: what was compared.
        error: largest difference; for exact comparisons the number of differences.
        tolerance: how large it may be.
        problem: why nothing could be compared; empty otherwise.
    """

    case: str
    quantity: str
    error: float
    tolerance: float
    problem: str = ""

    @property
    def ok(self) -> bool:
        """Within tolerance; never when the error is no number."""
        return not self.problem and self.error <= self.tolerance

    def line(self) -> str:
        """One line for people."""
        verdict = "ok    " if self.ok else "FAILED"
        if self.problem:
            name = f"{self.case} {self.quantity}".rstrip()
            return f"{verdict} {name}: {self.problem}"
        return (
            f"{verdict} {self.case:<44} {self.quantity:<36} "
            f"error {self.error:9.2e}  tolerance {self.tolerance:8.1e}"
        )


def summary(checks: Sequence[Check]) -> str:
    """One line for the checks of one case: the one that is nearest to its tolerance."""
    failed = [check for check in checks if not check.ok]
    if failed:
        return "\n".join(check.line() for check in failed)
    worst = max(checks, key=lambda check: (check.error / (check.tolerance or 1.0), check.tolerance))
    name = f"{worst.case} ({len(checks)})"
    return (
        f"ok     {name:<44} {worst.quantity:<36} "
        f"error {worst.error:9.2e}  tolerance {worst.tolerance:8.1e}"
    )


@dataclass(slots=True)
class Report:
    """The checks of one folder, in order."""

    checks: list[Check] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        return bool(self.checks) and all(check.ok for check in self.checks)

    def close(self, case: str, quantity: str, value: Any, stored: Any, tolerance: float) -> None:
        """The largest absolute difference of two arrays of one shape."""
        if stored is ABSENT:
            return
        have, want = np.asarray(value), np.asarray(stored)
        if have.shape != want.shape:
            self.problem(case, quantity, f"expected the shape {want.shape}, got {have.shape}")
            return
        if want.size == 0:
            self.problem(case, quantity, "the stored array is empty")
            return
        difference = np.abs(have.astype(np.float64) - want.astype(np.float64))
        self._add(case, quantity, float(difference.max()), tolerance)

    def mean_close(
        self, case: str, quantity: str, value: Any, stored: Any, tolerance: float
    ) -> None:
        """The mean absolute difference of two arrays of one shape."""
        have, want = np.asarray(value, np.float64), np.asarray(stored, np.float64)
        if have.shape != want.shape:
            self.problem(case, quantity, f"expected the shape {want.shape}, got {have.shape}")
            return
        self._add(case, quantity, float(np.abs(have - want).mean()), tolerance)

    def equal(self, case: str, quantity: str, value: Any, stored: Any) -> None:
        """Exact equality of anything that compares, dicts entry by entry."""
        if stored is ABSENT:
            return
        if isinstance(value, dict) and isinstance(stored, dict):
            keys = [*value.keys(), *(key for key in stored if key not in value)]
            differing = [key for key in keys if value.get(key, ABSENT) != stored.get(key, ABSENT)]
            if differing:
                shown = ", ".join(map(str, differing[:3]))
                more = f" and {len(differing) - 3} more" if len(differing) > 3 else ""
                self.problem(case, quantity, f"differs in {shown}{more}")
                return
        elif value != stored:
            self.problem(case, quantity, f"expected {_short(stored)}, got {_short(value)}")
            return
        self._add(case, quantity, 0.0, 0.0)

    def problem(self, case: str, quantity: str, sentence: str) -> None:
        """Nothing could be compared, and that is a failure."""
        self.checks.append(Check(case, quantity, math.inf, 0.0, sentence))

    def _add(self, case: str, quantity: str, error: float, tolerance: float) -> None:
        if not math.isfinite(error):
            self.problem(case, quantity, "the difference is not a finite number")
            return
        self.checks.append(Check(case, quantity, error, tolerance))


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 80 else text[:77] + "..."
