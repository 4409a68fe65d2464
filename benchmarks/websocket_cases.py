"""Cases of WebSocket conformance, after the sections of the Autobahn test suite.

Ours is no echo server. Text that arrives whole is shown by the `pong` that carries it back, binary
data by the `error` that names it, and what must not be let in by the closing code (RFC 6455,
section 7.4.1).
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from benchmarks.raw_websocket import Opcode, close_frame, frame
from server.protocol import MAX_MESSAGE_BYTES
from server.websocket.wire import MAX_PACKET_BYTES

CONTINUATION, TEXT, BINARY = Opcode.CONTINUATION, Opcode.TEXT, Opcode.BINARY
CLOSE, PING, PONG = Opcode.CLOSE, Opcode.PING, Opcode.PONG

OPEN: Final = frozenset[int]()  # the connection stays; the runner closes it and wants 1000 back
PROTOCOL_ERROR: Final = frozenset({1002})
INVALID_DATA: Final = frozenset({1007})
TOO_BIG: Final = frozenset({1009})
FLOOD: Final = frozenset({1008})
NO_CODE: Final = 1005  # an empty closing frame


@dataclass(frozen=True, slots=True)
class Case:
    """What is sent once a session has begun, and what must come of it.

    Attributes:
        sent: frames.
        answers: in order: `pong` texts, codes of errors as "error:CODE", payloads of pong frames.
        closes: with one of these codes; empty where the connection must stay.
        bytewise: every byte is sent by itself.
    """

    section: str
    name: str
    sent: bytes
    answers: tuple[str | bytes, ...] = ()
    closes: frozenset[int] = OPEN
    bytewise: bool = False


def ping(text: str = "x", size: int | None = None) -> bytes:
    """A control message that is answered with `text`, filled with blanks to a size in bytes."""
    data = json.dumps({"type": "ping", "t": text}, ensure_ascii=False).encode()
    return data if size is None else data.ljust(size)


def fragments(data: bytes, size: int, opcode: int = TEXT) -> list[bytes]:
    """One message in frames of so many bytes."""
    pieces = [data[at : at + size] for at in range(0, len(data), size)]
    return [
        frame(opcode if number == 0 else CONTINUATION, piece, fin=number == len(pieces) - 1)
        for number, piece in enumerate(pieces)
    ]


def cases() -> Iterator[Case]:
    """All of them."""
    yield from _framing()
    yield from _pings()
    yield from _reserved()
    yield from _fragmentation()
    yield from _utf8()
    yield from _closing()
    yield from _limits()
    yield from _masking()


def _framing() -> Iterator[Case]:
    for size in (40, 125, 126, 127, 128, 4096, MAX_MESSAGE_BYTES):
        yield Case("1 framing", f"text of {size} bytes", frame(TEXT, ping("a", size)), ("a",))
    for size in (126, 4096):
        sent = frame(TEXT, ping("a", size))
        yield Case("1 framing", f"text of {size} bytes, bytewise", sent, ("a",), bytewise=True)
    yield Case("1 framing", "empty text", frame(TEXT), ("error:not_json",))
    for size in (0, 1, 24, 125, 126, 127, 128, 65_535, 65_536, MAX_PACKET_BYTES):
        sent = frame(BINARY, bytes(size))
        yield Case("1 framing", f"binary of {size} bytes", sent, ("error:bad_packet",))
    sent = b"".join(frame(TEXT, ping(str(number))) for number in range(20))
    yield Case("1 framing", "20 texts at once", sent, tuple(map(str, range(20))))


def _pings() -> Iterator[Case]:
    for size in (0, 1, 8, 125):
        payload = bytes(range(1, size + 1))
        for bytewise in (False, True):
            name = f"ping of {size} bytes" + (", bytewise" if bytewise else "")
            yield Case("2 pings", name, frame(PING, payload), (payload,), bytewise=bytewise)
    yield Case("2 pings", "ping that is no UTF-8", frame(PING, b"\x00\xff\xfe"), (b"\x00\xff\xfe",))
    for opcode in (PING, PONG, CLOSE):
        sent = frame(opcode, bytes(126))
        yield Case("2 pings", f"{opcode.name} of 126 bytes", sent, (), PROTOCOL_ERROR)
    for payload in (b"", b"unsolicited"):
        sent = frame(PONG, payload) + frame(TEXT, ping())
        yield Case("2 pings", f"pong that nobody asked for: {payload!r}", sent, ("x",))
    many = [bytes([number]) for number in range(10)]
    sent = b"".join(frame(PING, payload) for payload in many)
    yield Case("2 pings", "ten pings at once", sent, tuple(many))
    yield Case("2 pings", "ten pings, bytewise", sent, tuple(many), bytewise=True)


def _reserved() -> Iterator[Case]:
    for reserved in range(1, 8):
        for opcode in (TEXT, BINARY, PING, PONG, CLOSE):
            sent = frame(TEXT, ping("before")) + frame(opcode, b"", reserved=reserved)
            name = f"RSV {reserved:03b} on {opcode.name}"
            yield Case("3 reserved bits", name, sent, ("before",), PROTOCOL_ERROR)
    sent = frame(TEXT, b'{"type":', fin=False) + frame(CONTINUATION, b'"ping"}', reserved=4)
    yield Case("3 reserved bits", "RSV 100 on CONTINUATION", sent, (), PROTOCOL_ERROR)
    for number in (3, 4, 5, 6, 7, 11, 12, 13, 14, 15):
        for payload in (b"", b"payload"):
            name = f"opcode {number} with {len(payload)} bytes"
            yield Case("4 opcodes", name, frame(number, payload), (), PROTOCOL_ERROR)
        sent = frame(TEXT, b"{", fin=False) + frame(number, b"")
        yield Case("4 opcodes", f"opcode {number} between fragments", sent, (), PROTOCOL_ERROR)


def _fragmentation() -> Iterator[Case]:
    section, text = "5 fragmentation", ping("whole", 60)
    for size in (1, 2, 7, 30, 59):
        yield Case(
            section, f"fragments of {size} bytes", b"".join(fragments(text, size)), ("whole",)
        )
    parts = fragments(text, 30)
    yield Case(section, "fragments, bytewise", b"".join(parts), ("whole",), bytewise=True)
    between = parts[0] + frame(PING, b"1") + parts[1]
    yield Case(section, "ping between fragments", between, (b"1", "whole"))
    yield Case(section, "ping between, bytewise", between, (b"1", "whole"), bytewise=True)
    empties = frame(TEXT, b"", fin=False) + frame(CONTINUATION, b"", fin=False) * 3
    sent = empties + frame(CONTINUATION, text)
    yield Case(section, "empty fragments first", sent, ("whole",))
    sent = frame(TEXT, text, fin=False) + frame(CONTINUATION, b"")
    yield Case(section, "an empty fragment last", sent, ("whole",))
    sent = b"".join(fragments(bytes(5000), 1000, BINARY))
    yield Case(section, "binary in five fragments", sent, ("error:bad_packet",))
    for opcode in (PING, PONG, CLOSE):
        sent = frame(opcode, b"", fin=False)
        yield Case(section, f"fragmented {opcode.name}", sent, (), PROTOCOL_ERROR)
    for fin in (True, False):
        sent = frame(CONTINUATION, text, fin=fin)
        yield Case(section, f"continuation of nothing, fin={fin}", sent, (), PROTOCOL_ERROR)
    sent = frame(TEXT, ping("one")) + frame(CONTINUATION, text)
    yield Case(section, "continuation after a whole text", sent, ("one",), PROTOCOL_ERROR)
    for opcode in (TEXT, BINARY):
        sent = parts[0] + frame(opcode, ping("two"))
        yield Case(section, f"{opcode.name} inside a message", sent, (), PROTOCOL_ERROR)
    sent = parts[0] + close_frame(1000)  # the RFC does not say; websockets finds it incomplete
    yield Case(section, "closed inside a message", sent, (), frozenset({1000, 1002}))


VALID_UTF8: Final = (
    "κόσμε", "\u0080", "\u07ff", "\u0800", "\ud7ff", "\ue000", "\ufffd", "\ufffe", "\uffff",
    "\U00010000", "\U0001fffe", "\U0010ffff", "Hellö-µ@ßöäüàá-UTF-8!!",
)  # fmt: skip
INVALID_UTF8: Final = (
    b"\x80", b"\xbf", b"\x80\xbf\x80", b"\xc3", b"\xe2\x82", b"\xf0\x9f\x98", b"\xc3 ",
    b"\xe2\x82 ", b"\xf0\x9f\x98 ", b"\xc0\xaf", b"\xe0\x80\xaf", b"\xf0\x80\x80\xaf",
    b"\xc1\xbf", b"\xe0\x9f\xbf", b"\xf0\x8f\xbf\xbf", b"\xed\xa0\x80", b"\xed\xbf\xbf",
    b"\xed\xa0\x80\xed\xb0\x80", b"\xf4\x90\x80\x80", b"\xf8\x88\x80\x80\x80",
    b"\xfc\x84\x80\x80\x80\x80", b"\xfe", b"\xff", b"\xfe\xfe\xff\xff",
)  # fmt: skip


def _utf8() -> Iterator[Case]:
    section = "6 UTF-8"
    for text in VALID_UTF8:
        name = text.encode().hex()
        yield Case(section, f"valid {name}", frame(TEXT, ping(text)), (text,))
        sent = b"".join(fragments(ping(text), 1))
        yield Case(section, f"valid {name}, a fragment a byte", sent, (text,))
    for data in INVALID_UTF8:
        message = b'{"type": "ping", "t": "' + data + b'"}'
        yield Case(section, f"invalid {data.hex()}", frame(TEXT, message), (), INVALID_DATA)
        sent = b"".join(fragments(message, 1))
        yield Case(section, f"invalid {data.hex()}, a fragment a byte", sent, (), INVALID_DATA)
    good = ping("ok")
    for at in range(len(good) + 1):
        sent = frame(TEXT, good[:at] + b"\xff" + good[at:])
        yield Case(section, f"ff at byte {at}", sent, (), INVALID_DATA)
    sent = frame(TEXT, b"\xff") + close_frame(1000)
    yield Case(section, "invalid, and closed in one segment", sent, (), frozenset({1000, 1007}))
    yield Case(section, "binary need not be UTF-8", frame(BINARY, b"\xff"), ("error:bad_packet",))


def _closing() -> Iterator[Case]:
    section = "7 closing"
    yield Case(section, "without a code", close_frame(None), (), frozenset({NO_CODE, 1000}))
    for code in (1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 3000, 3999, 4000, 4999):
        yield Case(section, f"code {code}", close_frame(code), (), frozenset({code}))
    for code in (0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65_535):
        yield Case(section, f"code {code}, which is none", close_frame(code), (), PROTOCOL_ERROR)
    for size in (1, 50, 123):
        sent = close_frame(1000, b"r" * size)
        yield Case(section, f"a reason of {size} bytes", sent, (), frozenset({1000}))
    yield Case(section, "a reason of 124 bytes", close_frame(1000, b"r" * 124), (), PROTOCOL_ERROR)
    yield Case(section, "half a code", frame(CLOSE, b"\x03"), (), PROTOCOL_ERROR)
    sent = close_frame(1000, b"\xce\xba\xff")
    yield Case(section, "a reason that is no UTF-8", sent, (), frozenset({1002, 1007}))
    for name, after in (
        ("text", frame(TEXT, ping())),
        ("ping", frame(PING)),
        ("close", close_frame(1001)),
    ):
        sent = close_frame(1000) + after
        yield Case(section, f"{name} after closing", sent, (), frozenset({1000}))
    yield Case(section, "bytewise", close_frame(1000, b"bye"), (), frozenset({1000}), bytewise=True)


def _limits() -> Iterator[Case]:
    section = "9 limits"
    sent = frame(TEXT, ping("x", MAX_MESSAGE_BYTES + 1))
    yield Case(section, "a text a byte too long", sent, ("error:too_long",))
    yield Case(
        section, "a text of 1 MiB", frame(TEXT, b" " * MAX_PACKET_BYTES), ("error:too_long",)
    )
    for opcode in (TEXT, BINARY):
        sent = frame(opcode, bytes(MAX_PACKET_BYTES + 1))
        yield Case(section, f"{opcode.name} of 1 MiB and a byte", sent, (), TOO_BIG)
    sent = frame(BINARY, length=b"\x7f" + (1 << 40).to_bytes(8))
    yield Case(section, "a frame that says it has 2^40 bytes", sent, (), TOO_BIG)
    sent = frame(BINARY, length=b"\x7f" + (1 << 63).to_bytes(8))
    yield Case(section, "a length with the highest bit", sent, (), PROTOCOL_ERROR | TOO_BIG)
    sent = b"".join(fragments(bytes(MAX_PACKET_BYTES + 1), 1 << 16, BINARY))
    yield Case(section, "fragments of 1 MiB and a byte", sent, (), TOO_BIG)
    sent = b"".join(fragments(bytes(MAX_PACKET_BYTES), 1 << 13, BINARY))
    yield Case(section, "1 MiB in 128 fragments", sent, ("error:bad_packet",))
    empty = frame(TEXT, fin=False) + frame(CONTINUATION, fin=False) * 100_000
    yield Case(section, "100,000 empty fragments", empty, (), FLOOD)
    yield Case(section, "100,000 pongs", frame(PONG) * 100_000, (), FLOOD)
    yield Case(section, "100,000 small texts", frame(TEXT, b"1") * 100_000, (), FLOOD)


def _masking() -> Iterator[Case]:
    section = "13 masking"
    for opcode, payload in ((TEXT, ping()), (BINARY, b"x"), (PING, b""), (CLOSE, b"\x03\xe8")):
        sent = frame(opcode, payload, mask=None)
        yield Case(section, f"{opcode.name} without a mask", sent, (), PROTOCOL_ERROR)
    yield Case(section, "a mask of zeros", frame(TEXT, ping(), mask=bytes(4)), ("x",))
    sent = frame(TEXT, ping()[:10], fin=False) + frame(CONTINUATION, ping()[10:], mask=None)
    yield Case(section, "a fragment without a mask", sent, (), PROTOCOL_ERROR)
