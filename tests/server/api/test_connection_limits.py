"""What a stranger can do to a connection: raw bytes to a real server."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from itertools import chain, repeat
from typing import Any

import pytest
from websockets.asyncio.client import connect

from server.api import connection_limits
from server.api.connection_limits import Connections
from server.api.gateway import Gateway
from tests.server.served import served

Scenario = Callable[[str, int, Gateway], Awaitable[None]]


def run(scenario: Scenario, **settings: Any) -> None:
    async def main() -> None:
        async with served(**settings) as (url, gateway), asyncio.timeout(20):
            await scenario(url, int(url.rsplit(":", 1)[1]), gateway)

    asyncio.run(main())


async def answer_to(port: int, *pieces: bytes) -> bytes:
    """What comes back before the server closes the connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        with contextlib.suppress(ConnectionError):
            for piece in pieces:
                writer.write(piece)
                await writer.drain()
        with contextlib.suppress(ConnectionError):
            return await reader.read()
        return b""
    finally:
        writer.close()


def test_a_header_without_end_is_cut_off() -> None:
    async def scenario(url: str, port: int, gateway: Gateway) -> None:
        lines = repeat(b"x: " + b"y" * 1000 + b"\r\n", 200)
        answer = await answer_to(port, *chain([b"GET /healthz HTTP/1.1\r\n"], lines))
        assert answer == b"" or b" 400 " in answer, "reset, or told"
        assert b" 200 " in await answer_to(
            port, b"GET /healthz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n"
        )

    run(scenario)


@pytest.mark.parametrize("begun", [b"", b"GET /healthz HTTP/1.1\r\nhost: lo"])
def test_a_header_that_does_not_come_ends_the_connection(
    begun: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection_limits, "HEADER_S", 0.05)

    async def scenario(url: str, port: int, gateway: Gateway) -> None:
        assert await answer_to(port, begun) == b""
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n")
        assert b" 200 " in await reader.readuntil(b'{"status":"ok"}')
        writer.write(b"GET /healthz HT")  # the next request on the same connection
        assert await reader.read() == b""
        writer.close()

    run(scenario)


def test_an_offer_that_does_not_come_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("server.api.request_bodies.BODY_S", 0.05)

    async def scenario(url: str, port: int, gateway: Gateway) -> None:
        answer = await answer_to(
            port,
            b"POST /v1/sessions?mode=live HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n"
            b"content-type: application/sdp\r\ncontent-length: 1000\r\n\r\nv=0\r\n",
        )
        assert b" 408 " in answer and b"offer_timeout" in answer

    run(scenario)


def test_one_address_has_so_many_connections_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection_limits, "MAX_CONNECTIONS_OF_ONE", 3)
    held = Connections(lambda address: address == "10.0.0.9")
    assert [held.enter("10.0.0.1") for _ in range(4)] == [True] * 3 + [False]
    assert held.enter("10.0.0.2")
    held.leave("10.0.0.1")
    assert held.enter("10.0.0.1")
    assert all(held.enter("127.0.0.1") for _ in range(9)), "this machine itself"
    assert all(held.enter("10.0.0.9") for _ in range(9)), "a proxy speaks for many"
    assert [held.enter("2001:db8::1"), held.enter("2001:db8::2")] == [True, True]
    assert [held.enter("2001:db8::3"), held.enter("2001:db8::4")] == [True, False], "one network"


def test_there_are_so_many_connections_in_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection_limits, "MAX_CONNECTIONS", 3)

    async def scenario(url: str, port: int, gateway: Gateway) -> None:
        opened = [await asyncio.open_connection("127.0.0.1", port) for _ in range(3)]
        for reader, writer in opened:  # counted when they have asked something
            writer.write(b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n")
            assert b" 200 " in await reader.readuntil(b"\r\n")
        assert await answer_to(port, b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n") == b""
        opened[0][1].close()
        answer = b""
        while not answer:
            answer = await answer_to(
                port, b"GET /healthz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n"
            )
        for _, writer in opened:
            writer.close()

    run(scenario)


def test_connections_are_forgotten_when_they_end(monkeypatch: pytest.MonkeyPatch) -> None:
    counted: list[Connections] = []

    class Counted(Connections):
        def __init__(self, is_proxy: Callable[[str], bool]) -> None:
            super().__init__(is_proxy)
            counted.append(self)

    monkeypatch.setattr("server.api.http_server.Connections", Counted)

    async def scenario(url: str, port: int, gateway: Gateway) -> None:
        await answer_to(
            port, b"GET /healthz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n"
        )
        await answer_to(port, b"nonsense\r\n\r\n")
        address = f"{url.replace('http', 'ws')}/v1/media?mode=live"
        async with connect(address, subprotocols=["lipwire.v1"]) as socket:  # type: ignore[list-item]
            await socket.send('{"type":"session.start"}')
            await socket.recv()
            assert counted[0]._all == 1
        while counted[0]._all:
            await asyncio.sleep(0.01)

    run(scenario)
