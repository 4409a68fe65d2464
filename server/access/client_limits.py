"""What one client may have: calls at once, and new calls a minute. Pure, the clock is given."""

from __future__ import annotations

import ipaddress
import math
import time
from collections import Counter, deque
from collections.abc import Callable, Collection

from engine.errors import LipwireError

MINUTE_S = 60.0
REMEMBERED_CLIENTS = 10_000  # the longest unheard goes first: a flood of addresses fills no memory
IPV6_CLIENT_BITS = 64  # one subscriber's network: its addresses are one client


class ClientLimited(LipwireError):
    """This client has as many calls as it may have, or asks too often.

    Attributes:
        code: "client_sessions" or "client_rate".
        retry_after_s: when to ask again.
    """

    def __init__(self, code: str, message: str, retry_after_s: int) -> None:
        super().__init__(message)
        self.code = code
        self.retry_after_s = retry_after_s


def client_of(address: str | None) -> str | None:
    """Whom an address stands for; None where no limit applies.

    This machine itself is not limited: it is its owner, or a proxy that does not say whom it
    speaks for and behind which everybody would share one limit.
    """
    if not address:
        return None
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address
    if isinstance(parsed, ipaddress.IPv6Address):
        if parsed.ipv4_mapped is None:
            if parsed.is_loopback:
                return None
            return str(ipaddress.ip_network((int(parsed), IPV6_CLIENT_BITS), strict=False))
        parsed = parsed.ipv4_mapped
    return None if parsed.is_loopback else str(parsed)


def is_among(address: str, networks: Collection[str]) -> bool:
    """Whether an address is one of these, or in one of these networks; "*" is everybody."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address in networks or "*" in networks
    for network in networks:
        try:
            if network == "*" or parsed in ipaddress.ip_network(network, strict=False):
                return True
        except ValueError:
            continue
    return False


class ClientLimits:
    """Counts what each client has and how often it asked.

    Args:
        max_sessions: calls at once; 0 is no limit.
        per_minute: attempts to begin a call, those that are refused too; 0 is no limit.
        retry_after_s: told to those who have too many calls.
    """

    def __init__(
        self,
        max_sessions: int,
        per_minute: int,
        retry_after_s: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._max_sessions = max_sessions
        self._per_minute = per_minute
        self._retry_after_s = retry_after_s
        self._clock = clock
        self._active: Counter[str] = Counter()
        self._asked: dict[str, deque[float]] = {}

    def ask(self, client: str | None) -> None:
        """Notes an attempt.

        Raises:
            ClientLimited: it is one too many.
        """
        if client is None:
            return
        self._count_attempt(client)
        if self._max_sessions and self._active[client] >= self._max_sessions:
            calls = "one call" if self._max_sessions == 1 else f"{self._max_sessions} calls"
            raise ClientLimited(
                "client_sessions",
                f"expected at most {calls} at once from one address, end one first",
                self._retry_after_s,
            )

    def enter(self, client: str | None) -> None:
        """Counts a call."""
        if client is not None:
            self._active[client] += 1

    def leave(self, client: str | None) -> None:
        """Counts its end."""
        if client is not None:
            self._active[client] -= 1
            if not self._active[client]:
                del self._active[client]

    def _count_attempt(self, client: str) -> None:
        if not self._per_minute:
            return
        now = self._clock()
        asked = self._asked.pop(client, None) or deque(maxlen=self._per_minute)
        self._asked[client] = asked  # the newest last
        if len(self._asked) > REMEMBERED_CLIENTS:
            del self._asked[next(iter(self._asked))]
        if len(asked) == self._per_minute and now - asked[0] < MINUTE_S:
            raise ClientLimited(
                "client_rate",
                f"expected at most {self._per_minute} new calls a minute from one address",
                math.ceil(MINUTE_S - (now - asked[0])),
            )
        asked.append(now)
