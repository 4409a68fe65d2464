"""The userspace link between two namespaces, on sockets instead of TUN devices."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator

import pytest

from benchmarks.faulty_link import Link, LinkFaults

Ends = tuple[socket.socket, socket.socket, int, int]


@pytest.fixture
def ends() -> Iterator[Ends]:
    """Two outer ends, and the descriptors of the two that the link holds."""
    pairs = [socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM) for _ in range(2)]
    for pair in pairs:
        for end in pair:
            end.setblocking(False)
    yield pairs[0][0], pairs[1][0], pairs[0][1].fileno(), pairs[1][1].fileno()
    for pair in pairs:
        for end in pair:
            end.close()


async def _through(ends: Ends, faults: LinkFaults, count: int) -> tuple[list[int], Link]:
    """Numbers that came out of those that went in, and the link."""
    first, second, inner_first, inner_second = ends
    link = Link(inner_first, inner_second, faults)
    loop = asyncio.get_running_loop()
    out: list[int] = []
    for number in range(count):
        first.send(number.to_bytes(2, "big"))
        while link.carried + link.lost <= number:
            await asyncio.sleep(0)
    while len(out) < link.carried:
        out.append(int.from_bytes(await loop.sock_recv(second, 2), "big"))
    link.close()
    return out, link


def test_a_good_link_carries_everything_in_order(ends: Ends) -> None:
    out, link = asyncio.run(_through(ends, LinkFaults(), 100))
    assert out == list(range(100)) and link.lost == 0


def test_loss_takes_its_share(ends: Ends) -> None:
    out, link = asyncio.run(_through(ends, LinkFaults(loss=0.3), 100))
    assert 15 <= link.lost <= 45 and out == sorted(out)


def test_jitter_lets_packets_overtake_and_loses_none(ends: Ends) -> None:
    out, _ = asyncio.run(_through(ends, LinkFaults(jitter_ms=20), 100))
    assert sorted(out) == list(range(100)) and out != sorted(out)


def test_an_outage_takes_everything(ends: Ends) -> None:
    out, link = asyncio.run(_through(ends, LinkFaults(outage_s=5, outage_every_s=5), 20))
    assert (out, link.lost) == ([], 20)
