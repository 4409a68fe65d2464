"""How much generated mouth each frame shows.

Two questions decide: is there speech (avatar mode: the clip's own frames are
the resting mouth and need no inference) and is there a face whose mouth can be
seen (live mode; `engine.face.track` answers). Each answer moves a fade a step a
frame, so the mouth never jumps.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from engine.media import F32, FRAME_SAMPLES, SAMPLE_RATE_HZ

FaceClosed = Literal["no_face", "profile", "occluded", "cut"]
"""Why a face's generated mouth is not shown: there is none, it is turned away, something is
before it, or the scene is new and its face not found yet."""
ClosedReason = Literal[FaceClosed, "silence"]

BLOCK_SAMPLES = 160  # 10 ms
BLOCKS_PER_FRAME = FRAME_SAMPLES // BLOCK_SAMPLES
SPEECH_ON = 10 ** (-50 / 20)  # dBFS of a block's standard deviation
SPEECH_OFF = 10 ** (-56 / 20)
# A frame looks 80 ms past its own end, which every model's look-ahead covers: the mouth is
# fully generated when the sound sets in.
AHEAD_BLOCKS = 8
HANGOVER_BLOCKS = 48  # 480 ms of silence, then FADE_FRAMES to the clip's own frames: 0.6 s in all
FADE_FRAMES = 3

assert AHEAD_BLOCKS * BLOCK_SAMPLES <= SAMPLE_RATE_HZ * 0.08


class SpeechActivity:
    """Which frames lie in or near speech, from the level of 10 ms blocks.

    The blocks lie on the grid of the samples since `start_frame`, so the answer does not
    depend on how the samples were chopped.
    """

    def __init__(self, start_frame: int = 0) -> None:
        self._start_frame = start_frame
        self._tail: F32 = np.zeros(0, np.float32)
        self._blocks = 0
        self._on = False
        # Runs of active blocks [first, last] that some coming frame may still look at.
        self._runs: list[tuple[int, int]] = []

    def push(self, samples: F32) -> None:
        """Takes the next samples, float32 [n]."""
        pending = np.concatenate([self._tail, samples])
        count = len(pending) // BLOCK_SAMPLES
        blocks = pending[: count * BLOCK_SAMPLES].reshape(count, BLOCK_SAMPLES)
        self._tail = pending[count * BLOCK_SAMPLES :]
        # The deviation, not the level: a microphone's offset is no speech.
        for loudness in blocks.std(axis=1).tolist():
            self._on = loudness >= (SPEECH_OFF if self._on else SPEECH_ON)
            if self._on:
                if self._runs and self._runs[-1][1] == self._blocks - 1:
                    self._runs[-1] = (self._runs[-1][0], self._blocks)
                else:
                    self._runs.append((self._blocks, self._blocks))
            self._blocks += 1

    def speaking(self, frame: int) -> bool:
        """Whether the frame lies in speech, shortly before it or in the pause after it.

        Frames must be asked in order: what lies behind them is forgotten.
        """
        begin = (frame - self._start_frame) * BLOCKS_PER_FRAME
        while self._runs and self._runs[0][1] < begin - HANGOVER_BLOCKS:
            self._runs.pop(0)
        return bool(self._runs) and self._runs[0][0] < begin + BLOCKS_PER_FRAME + AHEAD_BLOCKS


@dataclass(slots=True)
class Fade:
    """A share of generated mouth that moves by `1 / FADE_FRAMES` a frame.

    Attributes:
        level: 0 the source frame .. FADE_FRAMES the generated mouth.
    """

    level: int = 0

    @property
    def factor(self) -> float:
        return self.level / FADE_FRAMES

    def step(self, opened: bool) -> float:
        """The factor of the next frame, 0.0 to 1.0."""
        self.level = min(max(self.level + (1 if opened else -1), 0), FADE_FRAMES)
        return self.factor
