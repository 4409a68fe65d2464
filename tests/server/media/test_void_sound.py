"""What a microphone had captured when its user interrupted is not heard, though it comes later."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from av import AudioFrame

from engine.media import F32
from server.media import session_media
from server.media.media_clock import SOUND_TICKS, TICK_HZ, TICKS_PER_MS
from server.media.session_media import MediaLimits, SessionMedia
from server.metrics.counters import Metrics

LOUD = 8000


class Engine:
    """Takes sound and gives no pictures; is its own stream.

    Attributes:
        heard: loudest sample of each piece, at 16 kHz.
    """

    ready = None
    state = "ready"
    camera_drops = 0

    def __init__(self) -> None:
        self.heard: list[float] = []

    def open_stream(self, *_: object) -> Engine:
        return self

    def push_audio(self, samples: F32) -> None:
        self.heard.append(float(np.abs(samples).max(initial=0.0)))

    def interrupt(self, generation: int) -> None:
        """No picture is on its way."""


class Call:
    """A call into whose microphone somebody talks without a pause, on a turned clock."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0
        self.packets = 0
        monkeypatch.setattr(session_media, "now_ticks", lambda: self.now)
        self.engine = Engine()
        limits = MediaLimits((64, 48), 100 * TICKS_PER_MS, TICK_HZ, 4)
        unused = cast(Any, SimpleNamespace())
        engine = cast(Any, self.engine)
        self.media = SessionMedia("s", "avatar", "ada", engine, Metrics(), limits, unused)
        self.media.start()

    def talk(self, packets: int) -> list[float]:
        """Lets packets of 20 ms come; the loudest sample that the engine hears of each."""
        self.engine.heard.clear()
        for _ in range(packets):
            self.now += SOUND_TICKS
            frame = AudioFrame.from_ndarray(
                np.full((1, SOUND_TICKS), LOUD, np.int16), format="s16", layout="mono"
            )
            frame.sample_rate, frame.pts = TICK_HZ, self.packets * SOUND_TICKS
            self.packets += 1
            self.media.push_sound(frame)
        return list(self.engine.heard)


def _after_interrupt(monkeypatch: pytest.MonkeyPatch, *, captured: bool) -> list[float]:
    async def main() -> list[float]:
        call = Call(monkeypatch)
        assert min(call.talk(25)[1:]) > 0.2
        call.media.interrupt(captured=captured)
        return call.talk(25)

    return asyncio.run(main())


def test_sound_that_was_captured_before_an_interrupt_is_silent(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    heard = _after_interrupt(monkeypatch, captured=True)
    assert heard[0] == heard[1] == 0.0
    assert min(heard[4:]) > 0.2  # what is said after it is heard


def test_an_interrupt_that_says_nothing_of_a_microphone_silences_nothing_to_come(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert min(_after_interrupt(monkeypatch, captured=False)) > 0.2
