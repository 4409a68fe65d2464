"""Where media meets the network."""

from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import Awaitable, Callable

import pytest
from aiortc import RTCConfiguration, RTCPeerConnection, RTCSessionDescription

from server.webrtc import datagram_guard
from server.webrtc.datagram_guard import DatagramGuard, Rate
from server.webrtc.media_network import MAX_PEER_ADDRESSES, MediaNetwork
from server.webrtc.signaling import OfferRefused

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
    return (await _guarded(called, network, offer))[0]


async def _guarded(
    called: RTCPeerConnection,
    network: MediaNetwork,
    offer: str,
    on_flood: Callable[[], None] = lambda: None,
) -> tuple[str, DatagramGuard]:
    """The answer, and what stands before its port."""
    await called.setRemoteDescription(RTCSessionDescription(offer, "offer"))
    guard = network.prepare(called, on_flood)
    await called.setLocalDescription(await called.createAnswer())
    return called.localDescription.sdp, guard


async def _until(holds: Callable[[], bool]) -> None:
    while not holds():
        await asyncio.sleep(0.01)


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


def test_strangers_reach_nothing_behind_a_port_and_the_call_connects_all_the_same() -> None:
    network = MediaNetwork(None, [LOOPBACK])
    rubbish = [b"\x16\xfe\xfd" + bytes(60), b"\x80\x60" + bytes(200), b"\xff" * 1200, b""]

    async def scenario(caller: RTCPeerConnection, called: RTCPeerConnection) -> None:
        answer, guard = await _guarded(called, network, await _offer(caller, network))
        (address,) = _candidates(answer)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
            for data in rubbish * 20:
                stranger.sendto(data, address)
            await _until(lambda: guard.strange == 80)
            ice = called.getTransceivers()[0].receiver.transport.transport.iceGatherer._connection
            assert ice._queue.empty(), "before the peer has come"
            await caller.setRemoteDescription(RTCSessionDescription(answer, "answer"))
            await _until(lambda: called.connectionState == "connected")
            for data in rubbish:
                stranger.sendto(data, address)
            await _until(lambda: guard.strange == 84)
        assert guard.excess == 0 and called.connectionState == "connected"

    _run(scenario)


def test_a_peer_that_floods_is_told_of_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(datagram_guard.PEER, "rtp", Rate(50, 1, 1 << 20, 1 << 20))
    monkeypatch.setattr(datagram_guard, "PATIENCE_DATAGRAMS", 20)
    monkeypatch.setattr(datagram_guard, "PATIENCE_PER_S", 1.0)
    network = MediaNetwork(None, [LOOPBACK])
    told: list[bool] = []

    async def scenario(caller: RTCPeerConnection, called: RTCPeerConnection) -> None:
        offer = await _offer(caller, network)
        answer, guard = await _guarded(called, network, offer, lambda: told.append(True))
        await caller.setRemoteDescription(RTCSessionDescription(answer, "answer"))
        await _until(lambda: caller.connectionState == "connected")
        transport = caller.getTransceivers()[0].receiver.transport
        for number in range(200):
            await transport._send_rtp(b"\x80\x60" + number.to_bytes(2, "big") + bytes(40))
            await asyncio.sleep(0)
        await _until(lambda: guard.flooded)

    _run(scenario)
    assert told == [True]


def test_a_peer_has_a_bounded_number_of_addresses() -> None:
    network = MediaNetwork(None, [LOOPBACK])

    async def scenario(caller: RTCPeerConnection, called: RTCPeerConnection) -> None:
        answer, guard = await _guarded(called, network, await _offer(caller, network))
        await caller.setRemoteDescription(RTCSessionDescription(answer, "answer"))
        await _until(lambda: called.connectionState == "connected")
        ice = called.getTransceivers()[0].receiver.transport.transport.iceGatherer._connection
        announced = ice._remote_candidates[0]
        ice._remote_candidates.extend([announced] * MAX_PEER_ADDRESSES)
        (address,) = _candidates(answer)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
            stranger.sendto(b"\x00\x01" + bytes(18), address)
            await _until(lambda: guard.strange == 1)

    _run(scenario)
