"""The control channel's JSON."""

from __future__ import annotations

import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.protocol import (
    MAX_MESSAGE_BYTES,
    EndMessage,
    InterruptMessage,
    Percentiles,
    PingMessage,
    ProtocolError,
    Stats,
    decode_message,
    encode_error,
    encode_pong,
    encode_ready,
    encode_stats,
)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"type":"ping","t":12.5}', PingMessage(12.5)),
        ('{"type":"ping"}', PingMessage(None)),
        ('{"type":"interrupt"}', InterruptMessage()),
        ('{"type":"interrupt","later":"fields are ignored"}', InterruptMessage()),
        ('{"type":"session.end"}', EndMessage()),
    ],
)
def test_known_messages_are_understood(text: str, message: object) -> None:
    assert decode_message(text) == message


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
        ("[" * 10_000, "not_json"),
        (" " * (MAX_MESSAGE_BYTES + 1), "too_long"),
    ],
)
def test_anything_else_is_refused_with_a_code_and_a_sentence(data: str | bytes, code: str) -> None:
    with pytest.raises(ProtocolError, match="expected") as caught:
        decode_message(data)
    assert caught.value.code == code
    assert len(str(caught.value)) < 200


@given(st.text() | st.binary())
def test_no_input_raises_anything_else(data: str | bytes) -> None:
    with contextlib.suppress(ProtocolError):
        decode_message(data)


def test_a_pong_brings_its_ping_back() -> None:
    assert json.loads(encode_pong(PingMessage("x1"))) == {"type": "pong", "t": "x1"}


def test_stats_have_the_promised_fields() -> None:
    stats = Stats(
        fps=25.0,
        late_hops=1,
        dropped_frames=2,
        missing_frames=3,
        server_latency_ms=Percentiles(200.0, 300.0),
        capture_to_frame_ms=320.0,
        playout_delay_ms=310.0,
        synced=0.5,
        compute_ms=40.0,
        backend="openvino",
        engine="ready",
        stalled=False,
    )
    decoded = json.loads(encode_stats(stats))
    assert decoded["type"] == "stats"
    assert decoded["server_latency_ms"] == {"p50": 200.0, "p95": 300.0}
    assert decoded["fps"] == 25.0 and decoded["synced"] == 0.5


def test_ready_and_error_name_their_type() -> None:
    limits = {"max_width": 1}
    ready = json.loads(
        encode_ready("a", "live", None, "openvino", "bundled", limits, "secret", resumed=False)
    )
    assert ready["type"] == "session.ready" and ready["limits"] == {"max_width": 1}
    error = json.loads(encode_error("code", "a sentence", fatal=True))
    assert error == {"type": "error", "code": "code", "message": "a sentence", "fatal": True}
