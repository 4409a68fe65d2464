"""The binary messages, and the page that describes them."""

from __future__ import annotations

import contextlib
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.protocol import ProtocolError
from server.websocket.wire import HEADER, MAX_PACKET_BYTES, Codec, Packet, PacketType, decode_packet
from server.websocket.wire import encode_packet as encode
from tests.protocol_page import table

SOUND = Packet(PacketType.AUDIO, Codec.PCM16, 1, 2, 3, 20_000, b"\x00\x01")
U32 = st.integers(0, 2**32 - 1)
SOUNDS = st.builds(
    Packet,
    st.just(PacketType.AUDIO),
    st.just(Codec.OPUS),
    U32,
    U32,
    st.integers(0, 2**64 - 1),
    st.integers(1, 2**32 - 1),
    st.binary(min_size=1),
)
PICTURES = st.builds(
    Packet,
    st.just(PacketType.VIDEO),
    st.sampled_from([Codec.H264, Codec.VP8, Codec.JPEG]),
    U32,
    U32,
    st.integers(0, 2**64 - 1),
    st.integers(1, 2**32 - 1),
    st.binary(min_size=1),
    st.sampled_from([0, 1]),
)


@given(SOUNDS | PICTURES)
def test_a_packet_arrives_as_it_was_sent(packet: Packet) -> None:
    assert decode_packet(encode(packet)) == packet


@given(st.binary(max_size=64))
def test_no_bytes_raise_anything_else(data: bytes) -> None:
    with contextlib.suppress(ProtocolError):
        decode_packet(data)


def test_the_bytes_are_those_of_the_page() -> None:
    expected = bytes.fromhex("01010100 00000001 00000002 0000000000000003 00004e20 0001")
    assert encode(SOUND) == expected


def _changed(place: int, value: int) -> bytes:
    data = bytearray(encode(SOUND))
    data[place] = value
    return bytes(data)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ("text", "binary"),
        (b"", "header of 24 bytes"),
        (encode(SOUND)[:24], "a payload"),
        (bytes(MAX_PACKET_BYTES + 1), "at most 1048576"),
        (_changed(0, 2), "version 1, got 2"),
        (_changed(1, 9), "known type"),
        (_changed(2, 9), "known type and codec"),
        (_changed(2, Codec.JPEG), "codec for audio, got jpeg"),
        (_changed(3, 1), "no flag"),
        (encode(SOUND) + b"x", "whole samples"),
        (struct.pack(">BBBBIIQI", 1, 1, 1, 0, 0, 0, 0, 0) + b"xy", "duration above 0"),
    ],
)
def test_anything_else_is_refused_with_what_was_expected(data: str | bytes, said: str) -> None:
    with pytest.raises(ProtocolError, match=said) as caught:
        decode_packet(data)
    assert caught.value.code == "bad_packet"


def test_numbers_without_room_in_the_header_are_refused() -> None:
    with pytest.raises(ProtocolError, match="fit the header"):
        encode(Packet(PacketType.AUDIO, Codec.PCM16, -1, 0, 0, 1, b"ab"))


def test_the_page_gives_the_header_as_it_is() -> None:
    letters = {"u8": "B", "u32": "I", "u64": "Q"}
    rows = table("Binary messages")
    offsets = [int(row[0]) for row in rows]
    layout = ">" + "".join(letters[row[1]] for row in rows)
    assert layout == HEADER.format
    assert offsets == [struct.calcsize(layout[: place + 1]) for place in range(len(rows))]
    assert struct.calcsize(layout) == 24


def test_the_page_numbers_types_and_codecs_as_they_are() -> None:
    rows = table("Types and codecs")
    assert {row[0].strip("`"): int(row[1]) for row in rows} == {
        entry.name.lower(): entry.value for entry in (*PacketType, *Codec)
    }
