"""Packets of a WebSocket that ask for more than a call may cost."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from av import VideoFrame

from server.websocket import socket_codecs
from server.websocket.socket_codecs import H264Encoder, PictureDecoder, encode_jpeg
from server.websocket.wire import Codec, Packet, PacketType
from tests.encoded_pictures import noisy_picture


def _h264(frame: VideoFrame) -> bytes:
    return H264Encoder().encode(frame, True)[0]


def _jpeg(frame: VideoFrame) -> bytes:
    return encode_jpeg(frame)[0]


@pytest.mark.parametrize(("codec", "encode"), [(Codec.H264, _h264), (Codec.JPEG, _jpeg)])
def test_a_picture_of_too_many_pixels_is_not_decoded(
    monkeypatch: pytest.MonkeyPatch, codec: Codec, encode: Callable[[VideoFrame], bytes]
) -> None:
    payload = encode(noisy_picture(0))
    packet = Packet(PacketType.VIDEO, codec, 0, 0, 0, 40_000, payload=payload)
    (frame,) = PictureDecoder().decode(packet)
    assert (frame.width, frame.height) == (320, 240)
    monkeypatch.setattr(socket_codecs, "MAX_CAMERA_PIXELS", 320 * 240 - 1)
    assert PictureDecoder().decode(packet) == []
