"""Where media meets the network."""

from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import Awaitable, Callable

import pytest
from aiortc import RTCConfiguration, RTCPeerConnection, RTCSessionDescription

from server.media_network import MediaNetwork
from server.signaling import OfferRefused

LOOPBACK = "127.0.0.1"
HOST_LINE = "a=candidate:0f1e 1 udp 2130706431 10.9.0.2 50007 typ host"


def _free_ports(count: int) -> tuple[int, int]:
    """First and last of so many UDP ports in a row that are free on loopback."""
    for first in range(41_000, 60_000, count):
        held: list[socket.socket] = []
        try:
            for port in range(first, first + count):
                held.append(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
                held[-1].bind((LOOPBACK, port))
        except OSError:
            continue
        else:
            return first, first + count - 1
        finally:
            for sock in held:
                sock.close()
    raise AssertionError("expected free ports")


def _candidates(sdp: str) -> set[tuple[str, int]]:
    found = re.findall(r"^a=candidate:\S+ 1 udp \d+ (\S+) (\d+) typ host", sdp, re.MULTILINE)
    return {(host, int(port)) for host, port in found}


def _run(scenario: Callable[[RTCPeerConnection, RTCPeerConnection], Awaitable[None]]) -> None:
    async def main() -> None:
        ends = [RTCPeerConnection(RTCConfiguration(iceServers=[])) for _ in range(2)]
        try:
            async with asyncio.timeout(20):
                await scenario(*ends)
        finally:
            for end in ends:
                await end.close()

    asyncio.run(main())


async def _offer(caller: RTCPeerConnection, network: MediaNetwork) -> str:
    caller.addTransceiver("audio")
    caller.addTransceiver("video")
    caller.createDataChannel("lipwire")
    offer = await caller.createOffer()
    network.prepare(caller)
    await caller.setLocalDescription(offer)
    return caller.localDescription.sdp


async def _answer(called: RTCPeerConnection, network: MediaNetwork, offer: str) -> str:
    await called.setRemoteDescription(RTCSessionDescription(offer, "offer"))
    network.prepare(called)
    await called.setLocalDescription(await called.createAnswer())
    return called.localDescription.sdp


def test_a_call_connects_over_the_ports_and_addresses_that_were_named() -> None:
    ports = _free_ports(8)
    network = MediaNetwork(ports, [LOOPBACK])

    async def scenario(caller: RTCPeerConnection, called: RTCPeerConnection) -> None:
        connected = asyncio.Event()
        called.on(
            "connectionstatechange",
            lambda: connected.set() if called.connectionState == "connected" else None,
        )
        offer = await _offer(caller, network)
        answer = await _answer(called, network, offer)
        for sdp in (offer, answer):
            assert {host for host, _ in _candidates(sdp)} == {LOOPBACK}
            assert all(ports[0] <= port <= ports[1] for _, port in _candidates(sdp))
        assert len(_candidates(answer)) == 1, "media and data share one port"
        await caller.setRemoteDescription(RTCSessionDescription(answer, "answer"))
        await connected.wait()

    _run(scenario)


def test_when_all_ports_are_taken_the_offer_is_refused_and_a_port_given_back_is_used() -> None:
    first, _ = _free_ports(1)

    async def scenario(caller: RTCPeerConnection, called: RTCPeerConnection) -> None:
        offer = await _offer(caller, MediaNetwork(None, [LOOPBACK]))
        network = MediaNetwork((first, first), [LOOPBACK])
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
            other.bind((LOOPBACK, first))
            with pytest.raises(OfferRefused, match="all UDP ports for media are taken") as refused:
                await _answer(called, network, offer)
            assert (refused.value.status, refused.value.code) == (503, "no_media_port")
        later = RTCPeerConnection(RTCConfiguration(iceServers=[]))
        assert _candidates(await _answer(later, network, offer)) == {(LOOPBACK, first)}
        await later.close()

    _run(scenario)


def test_an_address_of_another_machine_cannot_be_bound() -> None:
    async def scenario(caller: RTCPeerConnection, called: RTCPeerConnection) -> None:
        with pytest.raises(OSError, match="assign"):
            await _offer(caller, MediaNetwork(None, ["203.0.113.7"]))

    _run(scenario)


def test_public_addresses_are_told_beside_the_local_ones_of_their_family() -> None:
    six = HOST_LINE.replace("10.9.0.2", "fd00::2")
    network = MediaNetwork(public_addresses=["203.0.113.7", "2001:db8::7"])
    answer = network.announce("\r\n".join(["v=0", HOST_LINE, six, "a=end-of-candidates", ""]))
    lines = answer.split("\r\n")
    assert [line for line in lines if "srflx" not in line] == [
        "v=0", HOST_LINE, six, "a=end-of-candidates", "",
    ]  # fmt: skip
    told = [line.split(" ", 4)[4] for line in lines if "srflx" in line]
    assert told == [
        "203.0.113.7 50007 typ srflx raddr 10.9.0.2 rport 50007",
        "2001:db8::7 50007 typ srflx raddr fd00::2 rport 50007",
    ]
    priorities = [int(line.split()[3]) for line in lines if line.startswith("a=candidate")]
    assert priorities[1] < priorities[0], "who can reach the local address does"
    foundations = {line.split()[0] for line in lines if "srflx" in line}
    assert len(foundations) == 2


def test_without_a_public_address_the_answer_stays_as_it_is() -> None:
    sdp = f"v=0\r\n{HOST_LINE}\r\n"
    assert MediaNetwork((50_000, 50_010)).announce(sdp) == sdp
