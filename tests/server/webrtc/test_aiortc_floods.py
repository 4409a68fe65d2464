"""Packets that ask for more than a call may cost."""

from __future__ import annotations

import asyncio
import queue
import struct
import threading
from collections.abc import Iterable
from functools import partial
from typing import Any

import pytest
from aiortc import RTCConfiguration, RTCPeerConnection
from aiortc.jitterbuffer import JitterFrame
from aiortc.rtcrtpparameters import RTCRtpCodecParameters
from aiortc.rtcrtpsender import RTCRtpSender
from aiortc.rtcsctptransport import (
    SCTP_DATA_FIRST_FRAG,
    SCTP_DATA_LAST_FRAG,
    SCTP_DATA_UNORDERED,
    DataChunk,
    RTCSctpTransport,
)
from av import VideoFrame

from server.message_rate import RateLimit
from server.webrtc import aiortc_floods as floods
from server.webrtc import aiortc_overrides as overrides
from tests.encoded_pictures import H264, VP8, encoded

BOTH = SCTP_DATA_FIRST_FRAG | SCTP_DATA_LAST_FRAG


def _claiming(frame: JitterFrame, width: int, height: int) -> JitterFrame:
    """A VP8 key frame whose header says another size."""
    data = bytearray(frame.data)
    struct.pack_into("<HH", data, 6, width, height)
    return JitterFrame(bytes(data), frame.timestamp)


def _decoded(codec: RTCRtpCodecParameters, frames: Iterable[JitterFrame]) -> list[Any]:
    """What the decoder's thread makes of pictures that come one by one."""

    async def scenario() -> list[Any]:
        output: asyncio.Queue[Any] = asyncio.Queue()
        loop = asyncio.get_running_loop()
        inputs: queue.Queue[Any] = queue.Queue()
        for frame in frames:
            inputs.put((codec, frame))
        inputs.put(None)
        await asyncio.to_thread(overrides.decoder_worker, loop, inputs, output, threading.Event())
        found = []
        while (frame := await output.get()) is not None:
            found.append(frame)
        return found

    return asyncio.run(scenario())


def test_a_vp8_picture_that_claims_too_much_never_reaches_the_decoder(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen: list[bytes] = []

    class Decoder:
        def decode(self, frame: JitterFrame) -> list[VideoFrame]:
            seen.append(frame.data)
            return []

    monkeypatch.setattr(floods, "get_decoder", lambda codec: Decoder())
    key, small = encoded(VP8, 2)
    bombs = [_claiming(key, *size) for size in [(16383, 16383), (1920, 1921), (0xFFFF, 0xFFFF)]]
    largest = _claiming(key, 1920, 1920)
    _decoded(VP8, [*bombs, small, largest, small])
    assert seen == [largest.data, small.data], "nor what builds on it"


def test_an_h264_picture_of_too_many_pixels_is_not_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    frames = encoded(H264, 3)
    assert len(_decoded(H264, frames)) == 3
    monkeypatch.setattr(floods, "MAX_CAMERA_PIXELS", 320 * 240 - 1)
    assert _decoded(H264, frames) == []


def test_packets_are_sent_again_up_to_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[int] = []

    async def send(self: object, sequence: int) -> None:
        sent.append(sequence)

    class Sender:
        pass

    now = 0.0
    monkeypatch.setattr(floods, "_retransmit", send)
    monkeypatch.setattr(
        floods, "RateLimit", lambda burst, rate: RateLimit(burst, rate, lambda: now)
    )
    sender: Any = Sender()

    async def ask(count: int) -> int:
        sent.clear()
        for sequence in range(count):
            await floods.retransmit(sender, sequence)
        return len(sent)

    assert asyncio.run(ask(6000)) == floods.RESENT_BURST
    now = 1.0
    assert asyncio.run(ask(6000)) == floods.RESENT_PER_S
    assert overrides.REPLACEMENTS.count((RTCRtpSender, "_retransmit", floods.retransmit)) == 1


def test_sound_is_decoded_up_to_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    class Receiver:
        pass

    now = 0.0
    monkeypatch.setattr(floods, "RateLimit", partial(RateLimit, clock=lambda: now))
    receiver, other = Receiver(), Receiver()
    assert sum(floods.takes_sound(receiver) for _ in range(5000)) == floods.SOUND_BURST
    now = 1.0
    assert sum(floods.takes_sound(receiver) for _ in range(5000)) == floods.SOUND_PER_S
    assert floods.takes_sound(other), "each call has its own"


class _Channel:
    """aiortc's own SCTP transport, as far as chunks are concerned, without a network."""

    def __init__(self, connection: RTCPeerConnection) -> None:
        connection.createDataChannel("lipwire")
        sctp = connection.sctp
        assert isinstance(sctp, RTCSctpTransport)
        sctp._last_received_tsn = 0
        self.sctp = sctp

    async def receive(self, tsn: int, flags: int, size: int = 1, stream: int = 1) -> None:
        chunk = DataChunk(flags=flags)
        chunk.tsn, chunk.stream_id, chunk.user_data = tsn, stream, bytes(size)
        await floods.receive_data_chunk(self.sctp, chunk)


@pytest.mark.parametrize(
    ("chunks", "taken"),
    [
        pytest.param([(n, BOTH, 1, 1) for n in range(1, 900)], 899, id="whole messages"),
        pytest.param(
            [(n, SCTP_DATA_FIRST_FRAG if n == 1 else 0, 1, 1) for n in range(1, 900)],
            floods.FRAGMENTS,
            id="a message without end",
        ),
        pytest.param(
            [(n, SCTP_DATA_FIRST_FRAG if n == 1 else 0, 1200, 1) for n in range(1, 900)],
            floods.FRAGMENT_BYTES // 1200,
            id="a long message",
        ),
        pytest.param(
            [(n, SCTP_DATA_UNORDERED | BOTH, 1, 1) for n in range(3, 2000, 2)],
            floods.MISORDERED,
            id="every second one missing",
        ),
        pytest.param([(n, BOTH, 1, n) for n in range(1, 900)], floods.STREAMS, id="streams"),
    ],
)
def test_messages_in_pieces_are_kept_up_to_a_bound(
    chunks: list[tuple[int, int, int, int]], taken: int
) -> None:
    async def scenario() -> int:
        connection = RTCPeerConnection(RTCConfiguration(iceServers=[]))
        channel = _Channel(connection)
        count = 0
        try:
            for chunk in chunks:
                await channel.receive(*chunk)
                count += 1
        except ConnectionError:
            pass
        finally:
            await connection.close()
        return count

    assert asyncio.run(scenario()) == taken
