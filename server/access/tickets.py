"""Tickets are taken once in the whole server, however many gateways it has."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Protocol

from server.gateways.messages import TakeTicket, TicketAnswer


class Tickets(Protocol):
    """Where a gateway asks whether a ticket was taken before."""

    async def take(self, name: str, issued: float, until: float) -> bool:
        """Takes a ticket; whether nobody can have before.

        Args:
            name: of the ticket, unique.
            issued, until: Unix times of its making and its expiry.
        """


class TakenTickets:
    """The names of tickets that were taken and would still be valid.

    What was taken before a server's start is known to nobody any more: tickets that are older than
    this object are refused.
    """

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._since = clock()
        self._until: dict[str, float] = {}

    @property
    def count(self) -> int:
        return len(self._until)

    def take_now(self, name: str, issued: float, until: float) -> bool:
        """As `Tickets.take`."""
        now = self._clock()
        self._until = {known: end for known, end in self._until.items() if end > now}
        if name in self._until or issued < self._since:
            return False
        self._until[name] = until
        return True

    async def take(self, name: str, issued: float, until: float) -> bool:
        return self.take_now(name, issued, until)


class RemoteTickets:
    """Asks the supervisor, which hears of the tickets of all gateways.

    Args:
        send: takes messages for the supervisor.
    """

    def __init__(self, send: Callable[[TakeTicket], None]) -> None:
        self._send = send
        self._asked: dict[int, asyncio.Future[bool]] = {}
        self._count = 0

    async def take(self, name: str, issued: float, until: float) -> bool:
        self._count += 1
        number = self._count
        answer: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._asked[number] = answer
        self._send(TakeTicket(number, name, issued, until))
        try:
            return await answer
        finally:
            del self._asked[number]

    def hear(self, answer: TicketAnswer) -> None:
        """What the supervisor says."""
        asked = self._asked.get(answer.number)
        if asked is not None and not asked.done():
            asked.set_result(answer.fresh)
