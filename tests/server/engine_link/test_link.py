"""Messages between processes of ours, on the event loop."""

from __future__ import annotations

import asyncio
import multiprocessing
from collections.abc import Awaitable, Callable
from multiprocessing.connection import Connection

from server.engine_link.link import OUTBOX_MESSAGES, Link

LARGE = b"x" * 60_000


class End:
    """One end of a link, and the plain other one."""

    def __init__(self) -> None:
        self.messages: list[object] = []
        self.losses: list[str] = []
        self.changed = asyncio.Event()
        ours, self.other = multiprocessing.Pipe(duplex=True)
        self.link = Link(ours, self._take, self._lose)

    def _take(self, message: object) -> None:
        self.messages.append(message)
        self.changed.set()

    def _lose(self, reason: str) -> None:
        self.losses.append(reason)
        self.changed.set()

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(20):
            while not condition():
                self.changed.clear()
                await self.changed.wait()


def _run(scenario: Callable[[End], Awaitable[None]]) -> None:
    async def main() -> None:
        end = End()
        try:
            await scenario(end)
        finally:
            end.link.close()
            end.link.close()
            if not end.other.closed:
                end.other.close()

    asyncio.run(main())


def test_messages_arrive_in_order_both_ways() -> None:
    async def scenario(end: End) -> None:
        for number in range(10):
            end.link.send(number)
            end.other.send(-number)
        assert [end.other.recv() for _ in range(10)] == list(range(10))
        await end.until(lambda: len(end.messages) == 10)
        assert end.messages == [-number for number in range(10)]

    _run(scenario)


def test_what_the_other_end_does_not_read_yet_waits_and_blocks_nothing() -> None:
    async def scenario(end: End) -> None:
        for number in range(40):  # far more than a socket holds
            end.link.send((number, LARGE))
        got: list[int] = []

        def read(connection: Connection) -> None:
            while len(got) < 40:
                got.append(connection.recv()[0])

        await asyncio.get_running_loop().run_in_executor(None, read, end.other)
        assert got == list(range(40)) and not end.losses

    _run(scenario)


def test_an_end_that_never_reads_is_given_up_once() -> None:
    async def scenario(end: End) -> None:
        for _ in range(OUTBOX_MESSAGES + 100):
            end.link.send(LARGE)
        assert end.losses == ["does not read its messages"]

    _run(scenario)


def test_an_end_that_is_gone_is_told_once_and_what_it_said_before_is_heard() -> None:
    async def scenario(end: End) -> None:
        end.other.send("last words")
        end.other.close()
        await end.until(lambda: bool(end.losses))
        assert end.messages == ["last words"] and end.losses == ["is gone"]
        end.link.send("into the void")
        assert end.losses == ["is gone"]

    _run(scenario)
