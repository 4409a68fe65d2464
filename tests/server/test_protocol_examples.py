"""The examples of `docs/protocol.md`, as they stand there."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path
from typing import Any

import numpy as np

from server.protocol import CLIENT_TYPES, SERVER_TYPES, decode_client, decode_server, encode_message
from server.websocket.wire import HEADER, Codec, Packet, PacketType, encode_packet
from tests.protocol_page import PAGE
from tests.server.served import served
from tests.server_fakes import make_avatar


def examples(language: str) -> list[str]:
    """The page's fenced blocks of a language."""
    return re.findall(rf"```{language}\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)


def test_every_message_is_what_it_is_shown_to_be() -> None:
    lines = [line for block in examples("json") for line in block.splitlines()]
    assert len(lines) >= 6
    for line in lines:
        shown = json.loads(line)
        assert shown["type"] in CLIENT_TYPES or shown["type"] in SERVER_TYPES
        decode = decode_client if shown["type"] in CLIENT_TYPES else decode_server
        assert json.loads(encode_message(decode(line))) == shown


def test_the_header_is_what_its_bytes_are_said_to_be() -> None:
    (shown,) = examples("hex")
    packet = Packet(PacketType.AUDIO, Codec.PCM16, 1, 25, 500_000, 20_000, bytes(1920))
    assert encode_packet(packet)[: HEADER.size] == bytes.fromhex(shown)


def test_the_call_without_a_client_of_ours_is_heard_and_seen(tmp_path: Path) -> None:
    make_avatar(tmp_path, "anna")
    names: dict[str, Any] = {}
    (text,) = examples("python")
    exec(text, names)
    speech = np.full(8_000, 3000, "<i2").tobytes()

    async def main() -> tuple[bytes, list[bytes]]:
        async with served(avatar_dirs=(tmp_path,)) as (url, _):
            address = url.replace("http", "ws", 1)
            async with asyncio.timeout(20):
                return await asyncio.to_thread(names["main"], address, speech)

    sound, pictures = asyncio.run(main())
    loud = np.abs(np.frombuffer(sound, "<i2")) > 1500
    assert abs(int(loud.sum()) - 8_000) < 400
    assert pictures and all(picture.startswith(b"\xff\xd8") for picture in pictures)
