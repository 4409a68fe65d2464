"""Lost packets are asked for at once, again when the answer is overdue, and not for ever."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from aiortc.rtp import RtcpRtpfbPacket, RtpPacket

from server.webrtc.aiortc_nack import (
    MOST_MISSING,
    MOST_REQUESTS,
    SHORTEST_REPEAT_S,
    Retransmissions,
)


def _heard(*sequences: int) -> Retransmissions:
    requests = Retransmissions()
    for sequence in sequences:
        requests.add(RtpPacket(sequence_number=sequence, ssrc=7))
    return requests


def test_a_hole_is_asked_for_at_once_and_upstream_does_not_ask_too() -> None:
    requests = Retransmissions()
    assert not any(requests.add(RtpPacket(sequence_number=number)) for number in (1, 2, 5))
    assert requests.due(10.0) == [3, 4]


def test_what_came_is_not_asked_for() -> None:
    requests = _heard(1, 4, 3)
    assert requests.due(10.0) == [2] and requests.missing == {2}


def test_a_packet_is_asked_for_again_a_quarter_after_the_round_trip() -> None:
    requests = _heard(1, 3)
    requests.round_trip_s = 0.05
    assert requests.due(10.0) == [2]
    assert requests.due(10.06) == []
    assert requests.due(10.07) == [2]


def test_the_round_trip_is_learnt_from_packets_that_were_asked_for_once() -> None:
    requests = _heard(1, 3)
    requests.due(10.0)
    for _ in range(40):
        requests.note_retransmission(2, 10.003)
    assert requests.round_trip_s == pytest.approx(0.003, abs=1e-4)
    assert requests.repeat_s == SHORTEST_REPEAT_S
    requests.due(11.0)
    requests.note_retransmission(2, 12.0)  # of which request?
    assert requests.round_trip_s == pytest.approx(0.003, abs=1e-4)


def test_a_packet_that_never_comes_is_not_asked_for_for_ever() -> None:
    requests = _heard(1, 3)
    asked = [requests.due(10.0 + second) for second in range(100)]
    assert sum(map(len, asked)) == MOST_REQUESTS


def test_packets_of_no_use_are_forgotten() -> None:
    requests = _heard(1, 3, 6)
    requests.forget_before(5)
    assert requests.missing == {5}


def test_sequence_numbers_wrap_and_the_request_can_be_packed() -> None:
    requests = _heard(65533, 2)
    due = requests.due(10.0)
    assert due == [0, 1, 65534, 65535]
    packet = RtcpRtpfbPacket(fmt=1, ssrc=1, media_ssrc=2)
    packet.lost = due
    assert len(bytes(packet)) > 0
    requests.forget_before(0)
    assert requests.missing == {0, 1}


def test_missing_packets_are_bounded_and_a_sender_that_begins_anew_has_none() -> None:
    assert len(_heard(1, 900).missing) == MOST_MISSING
    assert _heard(1, 5, 30_000).missing == set()


def test_requests_go_on_without_packets_and_end_with_the_receiver() -> None:
    class Receiver:
        """What it uses of upstream's receiver."""

        def __init__(self) -> None:
            self._RTCRtpReceiver__decoder_thread: object | None = self
            self.asked: list[list[int]] = []
            self.twice = asyncio.Event()

        async def _send_rtcp_nack(self, media_ssrc: int, lost: list[int]) -> None:
            assert media_ssrc == 7
            self.asked.append(lost)
            if len(self.asked) == 2:
                self._RTCRtpReceiver__decoder_thread = None
                self.twice.set()

    async def scenario() -> list[list[int]]:
        receiver: Any = Receiver()
        requests = _heard(1, 3)
        requests.round_trip_s = 0.0
        await requests.send(receiver)
        await asyncio.wait_for(receiver.twice.wait(), 5)
        before = requests._sending
        requests._send_later(receiver)
        assert requests._sending is before, "the receiver has been stopped"
        asked: list[list[int]] = receiver.asked
        return asked

    assert asyncio.run(scenario()) == [[2], [2]]
