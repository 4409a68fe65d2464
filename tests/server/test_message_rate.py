"""Control messages, counted."""

from __future__ import annotations

from server.message_rate import BURST_MESSAGES, MESSAGES_PER_S, MessageRate, SocketRate


def test_a_burst_passes_and_a_flood_does_not() -> None:
    now = 0.0
    rate = MessageRate(lambda: now)
    assert all(rate.allows() for _ in range(BURST_MESSAGES))
    assert not rate.allows()
    assert rate.full_in_ms == BURST_MESSAGES / MESSAGES_PER_S * 1000
    now = 1.0
    assert sum(rate.allows() for _ in range(1000)) == MESSAGES_PER_S
    now = 1000.0
    assert sum(rate.allows() for _ in range(1000)) == BURST_MESSAGES, "it fills no further"


def test_a_socket_may_send_its_whole_window_at_once_and_no_flood() -> None:
    now = 0.0
    rate = SocketRate(window_ms=60_000, clock=lambda: now)
    ten_ms = bytes(24 + 960)
    assert not any(rate.excess(None, ten_ms) for _ in range(6000)), "speech as far as its credit"
    rate = SocketRate(window_ms=500, clock=lambda: now)
    said = [rate.excess(None, b"x") for _ in range(1000)]
    assert (
        said[:600] == [None] * 600 and said[600] == "expected at most 250 binary messages a second"
    )
    assert rate.excess("{}", None) is None, "control messages are counted apart"


def test_a_socket_may_send_a_camera_and_no_more_bytes_than_that() -> None:
    now = 0.0
    rate = SocketRate(window_ms=0, clock=lambda: now)
    for _ in range(250):
        now += 0.04
        assert rate.excess(None, bytes(600 << 10)) is None
    assert any(rate.excess(None, bytes(1 << 20)) for _ in range(40))
