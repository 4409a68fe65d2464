"""How many calls at once."""

from __future__ import annotations

from engine.errors import LipwireError


class ServerFull(LipwireError):
    """No place is free.

    Attributes:
        retry_after_s: when to ask again.
    """

    def __init__(self, limit: int, retry_after_s: int) -> None:
        calls = "one call" if limit == 1 else f"{limit} calls"
        super().__init__(f"this server takes {calls} at once and all places are taken")
        self.retry_after_s = retry_after_s


class Admission:
    """Counts the places that are taken; a place is named by its session."""

    def __init__(self, limit: int, retry_after_s: int) -> None:
        self.limit = limit
        self._retry_after_s = retry_after_s
        self._taken: set[str] = set()

    @property
    def taken(self) -> int:
        return len(self._taken)

    def enter(self, session: str) -> None:
        """Takes a place.

        Raises:
            ServerFull: there is none.
        """
        if len(self._taken) >= self.limit:
            raise ServerFull(self.limit, self._retry_after_s)
        self._taken.add(session)

    def leave(self, session: str) -> None:
        """Gives a place back; twice does no harm."""
        self._taken.discard(session)
