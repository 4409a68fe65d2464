"""What is made of a browser's own figures."""

from __future__ import annotations

from typing import Any

import pytest

from benchmarks.browser_loss import figures_of, lips_minus_sound_ms


def reading(second: int, *, concealed: int, video_at: float) -> dict[str, Any]:
    buffer = {"jitterBufferDelay": 0.02 * 50 * second, "jitterBufferEmittedCount": 50 * second}
    return {
        "at": 1000.0 * second,
        "latency": 200,
        "inbound": {
            "audio": {
                **buffer,
                "concealedSamples": concealed,
                "totalSamplesReceived": 48_000 * second,
                "packetsLost": second,
                "estimatedPlayoutTimestamp": 1000.0 * second,
            },
            "video": {
                **buffer,
                "framesDecoded": 25 * second,
                "freezeCount": 0,
                "totalFreezesDuration": 0,
                "packetsLost": 0,
                "nackCount": 0,
                "pliCount": 0,
                "estimatedPlayoutTimestamp": video_at,
            },
        },
    }


def test_figures_are_those_between_the_first_reading_and_the_last() -> None:
    first = reading(10, concealed=500, video_at=9_980)
    last = reading(30, concealed=500 + 9_600, video_at=29_980)
    shown = [40.0 * number for number in range(1000)]
    figures = figures_of([first, last], shown)
    assert figures["pictures_shown_a_second"] == pytest.approx(25, abs=0.1)
    assert figures["pictures_decoded_a_second"] == 25
    assert figures["longest_gap_ms"] == 40
    assert figures["concealed_percent"] == 1.0
    assert figures["sound_buffer_ms"] == 20.0
    assert figures["packets_lost"] == {"picture": 0, "sound": 20}
    assert figures["lips_minus_sound_ms"]["p50"] == 20


def test_lips_that_are_behind_their_sound_count_as_late() -> None:
    assert lips_minus_sound_ms(reading(1, concealed=0, video_at=970)) == 30
    assert lips_minus_sound_ms({"inbound": {}}) is None
