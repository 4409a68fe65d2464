"""When a backend that ends its process again and again must give way to the next best. Pure."""

from __future__ import annotations

from collections import defaultdict, deque

CRASHES = 3
WITHIN_S = 60.0


class CrashRecord:
    """The engine's crashes by the backend that ran.

    Attributes:
        avoid: backends that are not to be tried again: name -> why.
    """

    def __init__(self) -> None:
        self.avoid: dict[str, str] = {}
        self._crashes: dict[str, deque[float]] = defaultdict(lambda: deque(maxlen=CRASHES))

    def note(self, backend: str, now_s: float) -> bool:
        """Notes that the engine was lost while this backend ran; whether it is avoided from now.

        Args:
            now_s: of a clock that never goes back.
        """
        crashes = self._crashes[backend]
        crashes.append(now_s)
        if len(crashes) < CRASHES or now_s - crashes[0] > WITHIN_S:
            return False
        self.avoid[backend] = f"the engine was lost {CRASHES} times within {WITHIN_S:.0f} s"
        return True

    def forgive(self) -> None:
        """Lets all be tried again: without them nothing is left."""
        self.avoid.clear()
        self._crashes.clear()
