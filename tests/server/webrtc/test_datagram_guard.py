"""What a media port takes of its peer, and what of strangers."""

from __future__ import annotations

import struct

import pytest

from server.webrtc.datagram_guard import (
    BURST_STRANGERS,
    MAX_SOURCES,
    MAX_WAITING,
    PATIENCE_DATAGRAMS,
    PEER,
    STRANGERS_PER_S,
    DatagramGuard,
    Kind,
)

CHECK = b"\x00\x01" + bytes(18)
DTLS = b"\x16" + bytes(60)


def rtp(ssrc: int, size: int = 200) -> bytes:
    return struct.pack(">BBHII", 0x80, 96, 0, 0, ssrc) + bytes(size - 12)


def rtcp(ssrc: int, size: int = 60) -> bytes:
    return struct.pack(">BBHI", 0x80, 201, 1, ssrc) + bytes(size - 8)


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.mark.parametrize("data", [DTLS, rtp(1), rtcp(1), b"", b"\x00\x01", b"GET / HTTP/1.1\r\n"])
def test_of_a_stranger_nothing_but_a_check_is_looked_at(data: bytes) -> None:
    guard = DatagramGuard(Clock())
    assert not guard.admits(data, of_peer=False)
    assert guard.admits(CHECK, of_peer=False)
    assert (guard.strange, guard.excess) == (1, 0)


def test_the_checks_of_strangers_are_few_and_take_nothing_from_the_peer() -> None:
    clock = Clock()
    guard = DatagramGuard(clock)
    assert sum(guard.admits(CHECK, of_peer=False) for _ in range(20_000)) == BURST_STRANGERS
    assert guard.admits(CHECK, of_peer=True) and guard.admits(rtp(1), of_peer=True)
    clock.now = 1.0
    assert sum(guard.admits(CHECK, of_peer=False) for _ in range(20_000)) == STRANGERS_PER_S
    assert not guard.flooded, "no stranger ends a call"


def test_a_camera_and_what_an_outage_held_back_pass_whole() -> None:
    clock = Clock()
    guard = DatagramGuard(clock)
    for step in range(6000):  # a minute of 5 Mbit/s, with a report for every fifth packet
        clock.now = step / 100
        assert all(guard.admits(rtp(1, 1250), of_peer=True) for _ in range(5))
        assert guard.admits(rtcp(2), of_peer=True)
        assert step % 3 or guard.admits(DTLS, of_peer=True)
    clock.now += 2.0
    assert all(guard.admits(rtp(1, 1250), of_peer=True) for _ in range(1000))
    assert guard.excess == 0


@pytest.mark.parametrize(
    ("kind", "data"), [("check", CHECK), ("dtls", DTLS), ("rtcp", rtcp(1, 60)), ("rtp", rtp(1, 60))]
)
def test_of_each_kind_no_more_is_taken_than_a_call_can_have(kind: Kind, data: bytes) -> None:
    clock = Clock()
    guard = DatagramGuard(clock)
    rate = PEER[kind]
    for second in range(3):
        clock.now = float(second)
        passed = sum(guard.admits(data, of_peer=True) for _ in range(6000))
        assert passed == (rate.burst if second == 0 else rate.per_s)
    other = rtp(1) if kind != "rtp" else rtcp(1)
    assert guard.admits(other, of_peer=True), "one kind takes nothing from another"
    assert guard.flooded == (guard.excess > PATIENCE_DATAGRAMS)


@pytest.mark.parametrize(("kind", "data"), [("rtcp", rtcp(1, 1500)), ("rtp", rtp(1, 60_000))])
def test_bytes_are_counted_too(kind: Kind, data: bytes) -> None:
    clock = Clock()
    guard = DatagramGuard(clock)
    rate = PEER[kind]
    assert sum(guard.admits(data, of_peer=True) for _ in range(300)) == rate.burst_bytes // len(
        data
    )
    clock.now = 1.0
    passed = sum(guard.admits(data, of_peer=True) for _ in range(300))
    assert passed == pytest.approx(rate.bytes_per_s / len(data), abs=1)


def test_a_steady_flood_ends_the_call_and_a_burst_does_not() -> None:
    clock = Clock()
    guard = DatagramGuard(clock)
    allowed = PEER["rtp"].burst + PATIENCE_DATAGRAMS
    for _ in range(allowed):
        guard.admits(rtp(1, 60), of_peer=True)
    assert not guard.flooded
    guard.admits(rtp(1, 60), of_peer=True)
    assert guard.flooded


def test_a_peer_has_a_few_sources_and_keeps_them_when_it_invents_more() -> None:
    guard = DatagramGuard(Clock())
    known = [rtp(number) for number in range(MAX_SOURCES - 1)] + [rtcp(99)]
    assert all(guard.admits(packet, of_peer=True) for packet in known)
    assert not any(guard.admits(rtp(1000 + number), of_peer=True) for number in range(500))
    assert not guard.admits(rtcp(1000), of_peer=True)
    assert all(guard.admits(packet, of_peer=True) for packet in known)
    assert guard.admits(rtp(99), of_peer=True), "reports and media of one source are one"
    assert guard.admits(DTLS, of_peer=True)


def test_what_nobody_takes_does_not_pile_up() -> None:
    guard = DatagramGuard(Clock())
    assert guard.admits(DTLS, of_peer=True, waiting=MAX_WAITING - 1)
    assert not guard.admits(DTLS, of_peer=True, waiting=MAX_WAITING)
