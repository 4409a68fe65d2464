"""The control messages, and the page that describes them."""

from __future__ import annotations

import contextlib
import re
from dataclasses import fields

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.protocol import (
    CLIENT_TYPES,
    MAX_MESSAGE_BYTES,
    SERVER_TYPES,
    ClientMessage,
    EndMessage,
    ErrorMessage,
    InterruptMessage,
    PingMessage,
    ProtocolError,
    ServerMessage,
    StartMessage,
    decode_client,
    decode_server,
    encode_message,
)
from tests.protocol_page import table


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"type":"ping","t":12.5}', PingMessage(12.5)),
        ('{"type":"ping"}', PingMessage(None)),
        ('{"type":"interrupt"}', InterruptMessage()),
        ('{"type":"interrupt","later":"fields are ignored"}', InterruptMessage()),
        ('{"type":"session.end"}', EndMessage()),
        ('{"type":"session.start","rate_hz":16000}', StartMessage(rate_hz=16_000)),
    ],
)
def test_known_messages_are_understood(text: str, message: object) -> None:
    assert decode_client(text) == message


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b'{"type":"ping"}', "not_text"),
        ("", "not_json"),
        ("{", "not_json"),
        ("[1]", "not_json"),
        ('"ping"', "not_json"),
        ("{}", "unknown_type"),
        ('{"type":"self-destruct"}', "unknown_type"),
        ('{"type":["ping"]}', "unknown_type"),
        ('{"type":"ping","t":{"a":1}}', "bad_field"),
        ('{"type":"ping","t":true}', "bad_field"),
        ('{"type":"ping","t":1e999}', "bad_field"),
        ('{"type":"session.start","rate_hz":44100}', "bad_field"),
        ('{"type":"session.start","audio":"mp3"}', "bad_field"),
        ("[" * 10_000, "not_json"),
        (" " * (MAX_MESSAGE_BYTES + 1), "too_long"),
    ],
)
def test_anything_else_is_refused_with_a_code_and_a_sentence(data: str | bytes, code: str) -> None:
    with pytest.raises(ProtocolError, match="expected") as caught:
        decode_client(data)
    assert caught.value.code == code
    assert len(str(caught.value)) < 200


@given(st.text() | st.binary())
def test_no_input_raises_anything_else(data: str | bytes) -> None:
    with contextlib.suppress(ProtocolError):
        decode_client(data)
    with contextlib.suppress(ProtocolError):
        decode_server(data)


@given(st.one_of(*(st.from_type(cls) for cls in CLIENT_TYPES.values())))
def test_what_a_client_says_arrives(message: ClientMessage) -> None:
    with contextlib.suppress(ProtocolError):  # numbers that JSON has no room for
        assert decode_client(encode_message(message)) == message


@pytest.mark.parametrize("cls", SERVER_TYPES.values())
@given(data=st.data())
def test_what_a_server_says_arrives(cls: type[ServerMessage], data: st.DataObject) -> None:
    message = data.draw(st.from_type(cls))
    try:
        arrived = decode_server(encode_message(message))
    except ProtocolError as error:
        assert error.code in ("bad_field", "too_long")  # infinities, and whole numbers over 63 bits
    else:
        assert arrived == message


def test_a_missing_field_is_named() -> None:
    with pytest.raises(ProtocolError, match="pong: expected a field t, got none"):
        decode_server('{"type":"pong"}')


def test_an_error_may_say_when_to_come_back() -> None:
    text = '{"type":"error","code":"c","message":"m","fatal":true,"retry_after_ms":500,"new":1}'
    assert decode_server(text) == ErrorMessage("c", "m", True, 500)


@pytest.mark.parametrize(
    ("heading", "types"), [("From the client", CLIENT_TYPES), ("From the server", SERVER_TYPES)]
)
def test_the_page_lists_every_message_with_its_fields(
    heading: str, types: dict[str, type[ClientMessage] | type[ServerMessage]]
) -> None:
    rows = {row[0].strip("`"): row[1] for row in table(heading)}
    assert list(rows) == list(types)
    for name, cls in types.items():
        if name != "stats":
            assert [f.name for f in fields(cls)] == re.findall(r"`(\w+)`", rows[name]), name


def test_the_page_lists_every_figure() -> None:
    listed = [row[0].strip("`") for row in table("`stats`, once a second")]
    assert sorted(listed) == sorted(f.name for f in fields(SERVER_TYPES["stats"]))
