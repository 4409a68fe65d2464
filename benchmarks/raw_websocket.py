"""WebSocket frames as they are or as they must not be, over a socket of our own (RFC 6455).

A client library refuses to send what breaks the protocol; this one sends any bytes.
"""

from __future__ import annotations

import asyncio
import base64
import socket
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Self
from urllib.parse import urlsplit

from server.websocket.wire import SUBPROTOCOL

KEY = base64.b64encode(bytes(range(16))).decode()
MASK = b"\x37\xfa\x21\x3d"
LARGEST_FRAME = 1 << 22


class Opcode(IntEnum):
    CONTINUATION = 0
    TEXT = 1
    BINARY = 2
    CLOSE = 8
    PING = 9
    PONG = 10


@dataclass(frozen=True, slots=True)
class ReceivedFrame:
    """One frame of the server's.

    Attributes:
        head: its first byte: FIN, reserved bits, opcode.
    """

    head: int
    payload: bytes

    @property
    def opcode(self) -> int:
        return self.head & 0x0F


def frame(
    opcode: int,
    payload: bytes = b"",
    *,
    fin: bool = True,
    reserved: int = 0,
    mask: bytes | None = MASK,
    length: bytes | None = None,
) -> bytes:
    """The bytes of a frame.

    Args:
        reserved: RSV1 to RSV3 as a number, RSV1 the highest.
        mask: of the client; None breaks the protocol.
        length: the length field instead of the right one, seven bits and what follows them.
    """
    size = len(payload)
    if length is None:
        if size < 126:
            length = bytes([size])
        elif size < 1 << 16:
            length = b"\x7e" + struct.pack(">H", size)
        else:
            length = b"\x7f" + struct.pack(">Q", size)
    head = bytes([fin << 7 | reserved << 4 | opcode])
    if mask is None:
        return head + length + payload
    long_mask = (mask * (size // 4 + 1))[:size]
    masked = (int.from_bytes(payload) ^ int.from_bytes(long_mask)).to_bytes(size)
    return head + bytes([length[0] | 0x80]) + length[1:] + mask + masked


def close_frame(code: int | None, reason: bytes = b"") -> bytes:
    """A closing frame; without a code it is empty."""
    return frame(Opcode.CLOSE, b"" if code is None else struct.pack(">H", code) + reason)


def handshake(
    path: str,
    host: str,
    *,
    method: str = "GET",
    without: Sequence[str] = (),
    changed: dict[str, str] | None = None,
) -> bytes:
    """A request to open a WebSocket.

    Args:
        without: headers that are left out.
        changed: headers that are added or are otherwise.
    """
    headers = {
        "Host": host,
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Key": KEY,
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Protocol": SUBPROTOCOL,
    }
    headers |= changed or {}
    lines = [f"{name}: {value}" for name, value in headers.items() if name not in without]
    return "\r\n".join([f"{method} {path} HTTP/1.1", *lines, "", ""]).encode("latin-1")


@dataclass(frozen=True, slots=True)
class Answer:
    """The server's answer to a handshake."""

    status: int
    headers: dict[str, str]


class RawWebSocket:
    """A connection on which any bytes may be sent."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def connect(cls, address: str, receive_bytes: int | None = None) -> Self:
        """A connection over which nothing has been said yet.

        Args:
            receive_bytes: that the kernel takes before the client reads; None: as many as it likes.
        """
        parts = urlsplit(address)
        raw = socket.socket()
        if receive_bytes is not None:
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
        raw.setblocking(False)
        await asyncio.get_running_loop().sock_connect(raw, (parts.hostname, parts.port))
        reader, writer = await asyncio.open_connection(sock=raw)
        return cls(reader, writer)

    def stop_reading(self) -> None:
        """Leaves what comes to the kernel, until that has no room for more."""
        self._writer.transport.pause_reading()  # type: ignore[attr-defined]

    def go_on_reading(self) -> None:
        self._writer.transport.resume_reading()  # type: ignore[attr-defined]

    async def send(self, data: bytes, *, bytewise: bool = False) -> None:
        """Sends bytes, at once or each by itself; what a connection that is gone takes is lost."""
        pieces = [data[i : i + 1] for i in range(len(data))] if bytewise else [data]
        try:
            for piece in pieces:
                self._writer.write(piece)
                await self._writer.drain()
                if bytewise:
                    await asyncio.sleep(0)
        except ConnectionError:
            return

    async def read_answer(self) -> Answer:
        """The head of an HTTP answer.

        Raises:
            asyncio.IncompleteReadError, ConnectionError: there was none.
        """
        head = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        fields = (line.split(":", 1) for line in head[1:] if line)
        return Answer(
            int(head[0].split()[1]), {name.lower(): value.strip() for name, value in fields}
        )

    async def read_frame(self) -> ReceivedFrame | None:
        """The next frame of the server's; None where the connection ended.

        Raises:
            ValueError: a masked or over-long frame, which no server may send.
        """
        try:
            head, size = await self._reader.readexactly(2)
            if size & 0x80:
                raise ValueError("expected frames without a mask from a server")
            if size >= 126:
                size = int.from_bytes(await self._reader.readexactly(2 if size == 126 else 8))
            if size > LARGEST_FRAME:
                raise ValueError(f"expected frames of at most {LARGEST_FRAME} bytes, got {size}")
            return ReceivedFrame(head, await self._reader.readexactly(size))
        except (asyncio.IncompleteReadError, ConnectionError):
            return None

    async def close(self) -> None:
        """Lets go of the connection, without a closing handshake."""
        self._writer.close()
        try:
            await self._writer.wait_closed()
        except ConnectionError:
            return
