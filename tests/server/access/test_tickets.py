"""Tickets of one server, whichever gateway they come to."""

from __future__ import annotations

import asyncio

from server.access.tickets import RemoteTickets, TakenTickets
from server.gateways.messages import TakeTicket, TicketAnswer


def test_a_name_is_taken_once_and_forgotten_after_its_time() -> None:
    now = 100.0
    tickets = TakenTickets(lambda: now)
    assert tickets.take_now("a", 100.0, 130.0) and tickets.take_now("b", 100.0, 130.0)
    assert not tickets.take_now("a", 100.0, 130.0)
    now = 130.0
    assert tickets.take_now("c", 130.0, 160.0)
    assert tickets.count == 1


def test_what_a_server_before_this_one_may_have_taken_is_refused() -> None:
    now = 100.0
    before = TakenTickets(lambda: now)
    assert before.take_now("a", 100.0, 130.0)
    now = 100.5
    after = TakenTickets(lambda: now)
    assert not after.take_now("a", 100.0, 130.0)
    assert not after.take_now("b", 100.4, 130.4), "nobody knows whether it was"
    assert after.take_now("c", 100.5, 130.5)


def test_of_many_gateways_that_ask_at_once_one_is_told_yes() -> None:
    async def main() -> None:
        supervisor = TakenTickets(lambda: 0.0)
        waiting: list[tuple[RemoteTickets, TakeTicket]] = []

        def gateway() -> RemoteTickets:
            tickets = RemoteTickets(lambda asked: waiting.append((tickets, asked)))
            return tickets

        gateways = [gateway() for _ in range(8)]
        asking = [asyncio.create_task(each.take("same", 0.0, 30.0)) for each in gateways]
        while len(waiting) < len(gateways):
            await asyncio.sleep(0)
        for each, asked in reversed(waiting):
            each.hear(
                TicketAnswer(
                    asked.number, supervisor.take_now(asked.name, asked.issued, asked.until)
                )
            )
        assert sorted(await asyncio.gather(*asking)) == [False] * 7 + [True]

    asyncio.run(main())


def test_an_answer_that_nobody_waits_for_any_more_does_no_harm() -> None:
    async def main() -> None:
        sent: list[TakeTicket] = []
        tickets = RemoteTickets(sent.append)
        asking = asyncio.create_task(tickets.take("a", 0.0, 30.0))
        while not sent:
            await asyncio.sleep(0)
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
        tickets.hear(TicketAnswer(sent[0].number, fresh=True))

    asyncio.run(main())
