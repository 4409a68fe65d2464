"""The binary messages of the WebSocket: a header of 24 bytes, big-endian, then the payload.

Pure encode and decode; `docs/protocol.md` has the table that a test holds this module to.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum

from server.protocol import ProtocolError

SUBPROTOCOL = "lipwire.v1"
VERSION = 1
HEADER = struct.Struct(">BBBBIIQI")  # version, type, codec, flags, generation, sequence, pts, dur.
MAX_PACKET_BYTES = 1 << 20
KEY_FRAME = 1  # flag: the picture needs no other
US_PER_S = 1_000_000


class PacketType(IntEnum):
    """What a packet carries."""

    AUDIO = 1
    VIDEO = 2


class Codec(IntEnum):
    """How its payload is coded: sound below 16, pictures from there on."""

    PCM16 = 1
    OPUS = 2
    H264 = 16
    VP8 = 17
    JPEG = 18


@dataclass(frozen=True, slots=True)
class Packet:
    """A piece of sound, or one picture.

    Attributes:
        generation: of the speech that it belongs to; each interrupt adds one.
        sequence: counts the sender's packets of one type, from 0.
        pts_us: media time of its first sample, of the picture.
        duration_us: how long it lasts.
    """

    type: PacketType
    codec: Codec
    generation: int
    sequence: int
    pts_us: int
    duration_us: int
    payload: bytes
    flags: int = 0


def encode_packet(packet: Packet) -> bytes:
    """A packet as it travels.

    Raises:
        ProtocolError: a number that the header has no room for, or an over-long payload.
    """
    try:
        header = HEADER.pack(
            VERSION,
            packet.type,
            packet.codec,
            packet.flags,
            packet.generation,
            packet.sequence,
            packet.pts_us,
            packet.duration_us,
        )
    except struct.error as error:
        raise ProtocolError(
            "bad_packet", f"expected numbers that fit the header: {error}"
        ) from None
    data = header + packet.payload
    decode_packet(data)
    return data


def decode_packet(data: str | bytes) -> Packet:
    """What travelled.

    Raises:
        ProtocolError: it says what was expected.
    """
    if isinstance(data, str):
        raise _bad("a binary message", "text")
    if len(data) <= HEADER.size:
        raise _bad(f"a header of {HEADER.size} bytes and a payload", f"{len(data)} bytes")
    if len(data) > MAX_PACKET_BYTES:
        raise _bad(f"at most {MAX_PACKET_BYTES} bytes", f"{len(data)}")
    version, kind, codec_id, flags, generation, sequence, pts, duration = HEADER.unpack_from(data)
    if version != VERSION:
        raise _bad(f"version {VERSION}", str(version))
    try:
        type_, codec = PacketType(kind), Codec(codec_id)
    except ValueError as error:
        raise _bad("a known type and codec", str(error)) from None
    if (type_ is PacketType.AUDIO) != (codec < Codec.H264):
        raise _bad(f"a codec for {type_.name.lower()}", codec.name.lower())
    if flags & ~KEY_FRAME or (flags and type_ is PacketType.AUDIO):
        raise _bad("no flag but the key frame's of a picture", f"{flags:#04x}")
    if not duration:
        raise _bad("a duration above 0", "0")
    if codec is Codec.PCM16 and (len(data) - HEADER.size) % 2:
        raise _bad("whole samples of two bytes", f"{len(data) - HEADER.size} bytes")
    payload = bytes(data[HEADER.size :])
    return Packet(type_, codec, generation, sequence, pts, duration, payload, flags)


def _bad(expected: str, got: str) -> ProtocolError:
    return ProtocolError("bad_packet", f"expected {expected}, got {got}")
