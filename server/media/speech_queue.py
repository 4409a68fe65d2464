"""Speech that may come faster than it is spoken: it waits here and is taken at 1x.

A synthesiser's client sends as far ahead as its credit allows, a microphone's as it
records. Media time follows the server's clock; where no speech waits there is silence,
so late speech is moved, never cut. Utterances begin once a little has come together, so
that a network's jitter makes no holes. Pure: time comes in as an argument, in ticks.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

import numpy as np

from engine.errors import LipwireError
from server.media.media_clock import SOUND_TICKS, TICK_HZ, TICKS_PER_MS
from server.media.timeline import I16
from server.protocol import PlaybackFinishedMessage, PlaybackStartedMessage

PREBUFFER_TICKS = 60 * TICKS_PER_MS

PlaybackMessage = PlaybackStartedMessage | PlaybackFinishedMessage


class AudioOverrun(LipwireError):
    """More speech than there was credit for."""


@dataclass(slots=True)
class _Segment:
    """One utterance on its way.

    Attributes:
        spans: media time and length of what was taken of it.
    """

    index: int
    waiting: int = 0
    ended: bool = False
    started: bool = False
    spans: list[tuple[int, int]] = field(default_factory=list)

    def heard(self, end: int) -> int:
        """Ticks of it before media time `end`."""
        return sum(min(max(end - pts, 0), count) for pts, count in self.spans)

    def take(self, pts: int, count: int) -> None:
        self.waiting -= count
        if self.spans and sum(self.spans[-1]) == pts:
            self.spans[-1] = (self.spans[-1][0], self.spans[-1][1] + count)
        else:
            self.spans.append((pts, count))


class SpeechQueue:
    """The utterances of one session in the order in which they came.

    Attributes:
        position: media time of the next sample to be taken.
        generation: of the speech that is taken.
    """

    def __init__(self, window: int) -> None:
        """
        Args:
            window: ticks of speech that may wait.
        """
        self.position = 0
        self.generation = 0
        self._window = window
        self._lead = 0
        self._epoch = 0
        self._taken = 0  # of this generation
        self._received = 0
        self._sound: deque[tuple[_Segment, I16]] = deque()
        self._segments: deque[_Segment] = deque()
        self._open: _Segment | None = None
        self._next_index = 0
        self._playing = False
        self._hurry = False
        self._waits_since = 0
        self._released = 0

    @property
    def until(self) -> int:
        """Ticks of this generation that may have been pushed in all."""
        return self._taken + self._window

    @property
    def waiting(self) -> int:
        """Ticks that wait."""
        return self._received - self._taken

    def begin(self, now: int, lead: int) -> None:
        """Media time begins, with `lead` ticks of silence that shift where blocks end."""
        self._epoch, self._lead = now, lead

    def push(self, samples: I16, now: int) -> None:
        """Adds speech: int16 [n] at 48 kHz.

        Raises:
            AudioOverrun: it is more than there was credit for; nothing of it is kept.
        """
        if self._received + len(samples) > self.until:
            raise AudioOverrun(
                f"expected at most {to_us(self.until)} us of sound in this generation so far, "
                f"got {to_us(self._received + len(samples))}: wait for credit"
            )
        if not len(samples):
            return
        if self._open is None:
            self._open = _Segment(self._next_index)
            self._next_index += 1
            self._segments.append(self._open)
        if not self._sound:
            self._waits_since = now
        self._open.waiting += len(samples)
        self._received += len(samples)
        self._sound.append((self._open, samples))

    def end_segment(self) -> None:
        """The utterance is complete."""
        if self._open is not None:
            self._open.ended = True
            self._open = None

    def flush(self) -> None:
        """Plays what waits without waiting for more."""
        self._hurry = self.waiting > 0

    def interrupt(self, generation: int) -> list[PlaybackMessage]:
        """Drops what waits; what is to be told of the utterances that end so."""
        told: list[PlaybackMessage] = [
            self._finished(segment, interrupted=True) for segment in self._segments
        ]
        self._segments.clear()
        self._sound.clear()
        self._open = None
        self._taken = self._received = 0
        self._playing = self._hurry = False
        self.generation = generation
        return told

    def fill(self, now: int) -> I16:
        """The blocks that are due: speech where some waits, else silence."""
        blocks = [np.zeros(self._lead, np.int16)]
        self.position += self._lead
        self._epoch -= self._lead
        self._lead = 0
        while self.position + SOUND_TICKS <= now - self._epoch:
            blocks.append(self._block(now))
            self.position += SOUND_TICKS
        return np.concatenate(blocks)

    def next_due(self) -> int:
        """When the next block is due, in ticks of the wall."""
        return self._epoch + self.position + SOUND_TICKS

    def note_released(self, end: int) -> list[PlaybackMessage]:
        """What is to be told when sound has left up to media time `end`."""
        self._released = end
        told: list[PlaybackMessage] = []
        for segment in self._segments:
            if not segment.started and segment.heard(end):
                segment.started = True
                told.append(PlaybackStartedMessage(self.generation, segment.index))
        while self._segments and self._is_over(self._segments[0]):
            told.append(self._finished(self._segments.popleft(), interrupted=False))
        return told

    def _is_over(self, segment: _Segment) -> bool:
        if not segment.ended or segment.waiting:
            return False
        return segment.heard(self._released) == segment.heard(self.position)

    def _finished(self, segment: _Segment, *, interrupted: bool) -> PlaybackFinishedMessage:
        heard = to_us(segment.heard(self._released))
        return PlaybackFinishedMessage(self.generation, segment.index, heard, interrupted)

    def _block(self, now: int) -> I16:
        block = np.zeros(SOUND_TICKS, np.int16)
        # Up to the last sample of an utterance that is complete, or else whole blocks only.
        complete = self._hurry or (bool(self._sound) and self._sound[0][0].ended)
        if not self._playing:
            waited = now - self._waits_since if self._sound else 0
            enough = self.waiting >= PREBUFFER_TICKS or waited >= PREBUFFER_TICKS
            self._playing = bool(self._sound) and (complete or enough)
        if not self._playing:
            return block
        if self.waiting < SOUND_TICKS and not complete:
            self._playing = False
            self._waits_since = now
            return block
        filled = 0
        while self._sound and filled < SOUND_TICKS:
            segment, samples = self._sound.popleft()
            count = min(len(samples), SOUND_TICKS - filled)
            block[filled : filled + count] = samples[:count]
            segment.take(self.position + filled, count)
            if count < len(samples):
                self._sound.appendleft((segment, samples[count:]))
            filled += count
        self._taken += filled
        if not self._sound:
            self._hurry = False
        return block


def to_us(ticks: int) -> int:
    """Microseconds."""
    return ticks * 1_000_000 // TICK_HZ
