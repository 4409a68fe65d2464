"""Opus over the WebSocket."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from server.client.socket_call import open_call
from server.media.media_clock import SOUND_TICKS, TICK_HZ
from server.media.timeline import I16
from server.protocol import PlaybackFinishedMessage, ProtocolError
from server.websocket.socket_opus import OpusDecoder, OpusEncoder
from server.websocket.wire import Codec, Packet, PacketType
from tests.server.served import served
from tests.server_fakes import make_avatar

DELAY = 312  # samples by which Opus is late, libopus's look-ahead


def chirp(seconds: float) -> I16:
    """A tone that rises, so that it is like itself at one delay only."""
    at = np.arange(int(seconds * TICK_HZ)) / TICK_HZ
    return (np.sin(2 * np.pi * (200 + 400 * at) * at) * 8000).astype(np.int16)


def packet(payload: bytes, duration_us: int = 20_000) -> Packet:
    return Packet(PacketType.AUDIO, Codec.OPUS, 0, 0, 0, duration_us, payload)


def likeness(heard: I16, said: I16, delay: int) -> float:
    length = min(len(heard) - delay, len(said))
    return float(np.corrcoef(heard[delay : delay + length], said[:length])[0, 1])


def test_what_is_encoded_is_decoded_sample_for_sample() -> None:
    said, encoder, decoder = chirp(1.0), OpusEncoder(), OpusDecoder()
    blocks = said.reshape(-1, SOUND_TICKS)
    coded = [encoder.encode_samples(block) for block in blocks]
    assert {duration_us for _, duration_us in coded} == {20_000}
    assert sum(len(payload) for payload, _ in coded) < said.nbytes / 5
    heard = np.concatenate([decoder.decode(packet(payload)) for payload, _ in coded])
    assert len(heard) == len(said) and likeness(heard, said, DELAY) > 0.97


def test_the_last_piece_is_filled_up_with_silence() -> None:
    payload, duration_us = OpusEncoder().encode_samples(chirp(0.005))
    assert duration_us == 20_000 and len(OpusDecoder().decode(packet(payload))) == SOUND_TICKS


def test_a_packet_that_is_not_what_it_says_is_refused() -> None:
    payload, _ = OpusEncoder().encode_samples(chirp(0.02))
    other = Packet(PacketType.AUDIO, Codec.PCM16, 0, 0, 0, 20_000, payload)
    for refused, expected in [
        (packet(payload, 40_000), "expected a duration of 20000 us, got 40000"),
        (packet(b"\xff" * 50), "expected a duration|expected a packet of Opus"),
        (other, "expected opus, got pcm16"),
    ]:
        with pytest.raises(ProtocolError, match=expected) as caught:
            OpusDecoder().decode(refused)
        assert caught.value.code == "bad_packet"


@settings(deadline=None)
@given(st.lists(st.binary(min_size=1, max_size=200), max_size=8))
def test_no_payload_does_any_harm(payloads: list[bytes]) -> None:
    decoder = OpusDecoder()
    for payload in payloads:
        with contextlib.suppress(ProtocolError):
            assert len(decoder.decode(packet(payload))) == SOUND_TICKS
    coded, _ = OpusEncoder().encode_samples(chirp(0.02))
    assert len(decoder.decode(packet(coded))) == SOUND_TICKS, "it goes on after nonsense"


def test_a_call_speaks_and_hears_opus(tmp_path: Path) -> None:
    make_avatar(tmp_path)
    said = chirp(0.8)

    async def main() -> I16:
        heard, decoder = list[I16](), OpusDecoder()
        async with (
            served(avatar_dirs=(tmp_path,)) as (url, _),
            open_call(url, avatar="ada", audio="opus") as call,
            asyncio.TaskGroup() as tasks,
        ):

            async def speak() -> None:
                await call.say(said)
                await call.end_segment()

            tasks.create_task(speak())
            async for event in call:
                if isinstance(event, Packet) and event.type is PacketType.AUDIO:
                    assert event.duration_us == 20_000
                    heard.append(decoder.decode(event))
                elif isinstance(event, PlaybackFinishedMessage):
                    assert event.position_us == 800_000
                    break
        return np.concatenate(heard)

    heard = asyncio.run(main())
    # A busy machine moves speech, with silence between, and never cuts it.
    energy = float(np.sum(np.square(heard, dtype=np.float64)))
    assert energy == pytest.approx(float(np.sum(np.square(said, dtype=np.float64))), rel=0.1)
