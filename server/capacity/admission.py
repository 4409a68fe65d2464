"""How many calls at once: places, what late hops take of them, and when to ask again.

Pure: the clock is an argument. Who already has a place keeps it; only the next one is refused.
"""

from __future__ import annotations

import math
import statistics
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from engine.errors import LipwireError
from server.access.client_limits import ClientLimits

Clock = Callable[[], float]

LONGEST_RETRY_S = 60  # who waits longer has gone away
REMEMBERED_CALLS = 20
LATE_HOPS = 3  # within LATE_WITHIN_S: one late hop may be anything, three are too many calls
LATE_WITHIN_S = 10.0
RECOVER_S = 60.0  # without a late hop, until one more call is let in again


class ServerFull(LipwireError):
    """No place is free.

    Attributes:
        retry_after_s: when to ask again.
    """

    def __init__(self, limit: int, retry_after_s: int) -> None:
        calls = "one call" if limit == 1 else f"{limit} calls"
        super().__init__(f"this server takes {calls} at once and all places are taken")
        self.retry_after_s = retry_after_s


@dataclass(frozen=True, slots=True)
class _Place:
    client: str | None
    since: float


class Admission:
    """Counts the places that are taken; a place is named by its session.

    Args:
        capacity: calls at once.
        clients: what one client may have of it.
        retry_after_s: the shortest time until somebody who was refused should ask again.

    Attributes:
        capacity: may be set anew; calls that are there stay.
    """

    def __init__(
        self,
        capacity: int,
        clients: ClientLimits,
        retry_after_s: int,
        clock: Clock = time.monotonic,
    ) -> None:
        self.capacity = capacity
        self._clients = clients
        self._shortest_retry_s = retry_after_s
        self._clock = clock
        self._places: dict[str, _Place] = {}
        self._lengths: deque[float] = deque(maxlen=REMEMBERED_CALLS)
        self._late: deque[float] = deque(maxlen=LATE_HOPS)
        self._withheld = 0
        self._withheld_at = clock()

    @property
    def taken(self) -> int:
        return len(self._places)

    @property
    def limit(self) -> int:
        """Calls that are let in now: the capacity without what late hops took of it."""
        self._recover()
        return max(self.capacity - self._withheld, 1)

    def enter(self, session: str, client: str | None) -> None:
        """Takes a place.

        Args:
            client: who asks, as `client_limits.client_of` names them; None is not limited.

        Raises:
            ServerFull: there is none.
            ClientLimited: this client has as many as it may have, or asks too often.
        """
        self._clients.ask(client)
        limit = self.limit
        if self.taken >= limit:
            raise ServerFull(limit, self._retry_after_s(limit))
        self._clients.enter(client)
        self._places[session] = _Place(client, self._clock())

    def leave(self, session: str) -> None:
        """Gives a place back; twice does no harm."""
        place = self._places.pop(session, None)
        if place is not None:
            self._clients.leave(place.client)
            self._lengths.append(self._clock() - place.since)

    def note_late(self, hops: int) -> None:
        """Hears of hops that were late: one call fewer than now, until none is late any more."""
        now = self._clock()
        self._late.extend([now] * min(hops, LATE_HOPS))
        if len(self._late) < LATE_HOPS or now - self._late[0] > LATE_WITHIN_S:
            return
        self._late.clear()
        self._recover()
        self._withheld_at = now
        self._withheld = max(self._withheld, self.capacity - max(self.taken - 1, 1))

    def _recover(self) -> None:
        now = self._clock()
        while self._withheld > 0 and now - self._withheld_at >= RECOVER_S:
            self._withheld -= 1
            self._withheld_at += RECOVER_S

    def _retry_after_s(self, limit: int) -> int:
        """Seconds until a place should be free, if calls go on to be as long as the last ones.

        Of n calls that last L seconds one ends every L / n seconds.
        """
        if not self._lengths:
            return self._shortest_retry_s
        ends = self.taken - limit + 1
        expected = math.ceil(statistics.median(self._lengths) / self.taken * ends)
        return max(min(expected, LONGEST_RETRY_S), self._shortest_retry_s)
