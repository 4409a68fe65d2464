"""Where the time of one session's media goes, stage by stage, for the histograms.

Times are wall ticks of 48 kHz. What counts from the first sample is measured from when the sound of
media time 0 would have come without any jitter (`DelayControl.sound_base`).
"""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from collections.abc import Mapping

from prometheus_client import Histogram

from server.media.media_clock import SOUND_TICKS, TICKS_PER_MS, now_ticks, to_seconds
from server.media.playout import DelayControl

GIVEN_BLOCKS = 128  # remembered of what the engine was given: longer than any hop waits


class StageTimes:
    """Observes the stages of one session.

    Args:
        stages: histograms of seconds, by stage (`server.metrics.counters.STAGES`).
        delay: of the session's playout.
    """

    def __init__(self, stages: Mapping[str, Histogram], delay: DelayControl) -> None:
        self._stages = stages
        self._delay = delay
        self._given: deque[tuple[int, int]] = deque(maxlen=GIVEN_BLOCKS)  # end in media time, when
        self._interrupted: int | None = None  # until a picture at rest has been sent
        self._rest_pts: int | None = None

    def sound_given(self, end: int, now: int) -> None:
        """The engine has all sound before media time `end`."""
        self._given.append((end, now))

    def sound_received(self, end: int, now: int) -> None:
        """A packet that ends at media time `end` has come out of the decoder."""
        base = self._delay.sound_base
        if base is not None:
            self._observe("receive", now - (end - SOUND_TICKS) - base)

    def hop_ready(self, begin: int, due: int, compute_ms: float, now: int) -> None:
        """A hop has come from the engine.

        Args:
            begin: media time of its first sample.
            due: media time of the sound's end that it needed.
            compute_ms: of the batch that made it; 0 of pictures that no batch made.
        """
        base = self._delay.sound_base
        if base is not None:
            self._observe("hop", now - base - begin)
        if compute_ms <= 0:
            return
        compute = int(compute_ms * TICKS_PER_MS)
        self._observe("generate", compute)
        at = bisect_left(self._given, due, key=lambda given: given[0])
        if at < len(self._given):
            self._observe("queue", now - self._given[at][1] - compute)

    def released(self, ready: int, latency: int | None, now: int) -> None:
        """A picture, in playout since `ready`, left `latency` after its first sample came."""
        self._observe("playout", now - ready)
        if latency is not None:
            self._observe("frame", latency)

    def interrupted(self, now: int) -> None:
        """An interrupt has arrived."""
        self._interrupted, self._rest_pts = now, None

    def rests(self, pts: int) -> None:
        """The picture of a place shows the source's own mouth."""
        if self._interrupted is not None and self._rest_pts is None:
            self._rest_pts = pts

    def sent(self, pts: int, taken: int) -> None:
        """A picture that the encoder took at `taken` is on its way."""
        now, base = now_ticks(), self._delay.sound_base
        if self._interrupted is not None and self._rest_pts is not None and pts >= self._rest_pts:
            self._observe("rest", now - self._interrupted)
            self._interrupted = None
        self._observe("encode", now - taken)
        if base is not None:
            self._observe("total", now - base - pts)

    def _observe(self, stage: str, ticks: int) -> None:
        self._stages[stage].observe(max(to_seconds(ticks), 0.0))
