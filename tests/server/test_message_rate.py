"""Control messages, counted."""

from __future__ import annotations

from server.message_rate import BURST_MESSAGES, MESSAGES_PER_S, MessageRate


def test_a_burst_passes_and_a_flood_does_not() -> None:
    now = 0.0
    rate = MessageRate(lambda: now)
    assert all(rate.allows() for _ in range(BURST_MESSAGES))
    assert not rate.allows()
    now = 1.0
    assert sum(rate.allows() for _ in range(1000)) == MESSAGES_PER_S
    now = 1000.0
    assert sum(rate.allows() for _ in range(1000)) == BURST_MESSAGES, "it fills no further"
