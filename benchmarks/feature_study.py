"""How near streamed audio features come to those of the whole recording.

Two things part them. Context: the encoder attends both ways, and a window ends soon after the
frame it drives and begins a few seconds before. Place: Whisper adds the position within its 30 s
to every step, and a stream's window always has the same rows. They are measured apart: windows
with the rows that the recording gave those steps lose context only.

Similarity is the cosine by step and state, averaged. "raw" is of the states as they are;
"centred" of what is left when each channel's mean over the recording is taken off, which is what
changes with the sound: a few channels are so large and steady that raw cosines flatter.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from engine.audio.features import FeatureStream
from engine.audio.log_mel import whisper_log_mel
from engine.media import F32, SAMPLE_RATE_HZ, STEP_SAMPLES
from engine.models.whisper import WhisperEncoder, offline_states
from engine.spec import AUDIO_STEPS, AUDIO_STEPS_AHEAD, AudioSpec

EDGE_STEPS = 60  # before a block's end the offline features lack context themselves
Rows = int | None  # a window's first row of the table; None: those of the recording


@dataclass(frozen=True, slots=True)
class Likeness:
    """Cosines by state, the embedded input first."""

    raw: tuple[float, ...]
    centred: tuple[float, ...]

    @classmethod
    def of(cls, streamed: Tensor, offline: Tensor, mean: Tensor) -> Likeness:
        """Of two [..., states, width], `mean` [states, width]."""
        return cls(_cosines(streamed, offline), _cosines(streamed - mean, offline - mean))

    @property
    def worst(self) -> float:
        """The lowest centred cosine of the states that attention has made."""
        return min(self.centred[1:])


def _cosines(ours: Tensor, theirs: Tensor) -> tuple[float, ...]:
    by_state = F.cosine_similarity(ours, theirs, dim=-1).flatten(0, -2).mean(0)
    return tuple(round(value, 4) for value in by_state.tolist())


class Study:
    """A recording, its offline features, and windows of a stream through the same encoder.

    Args:
        encoder: with its whole table as its window.
        samples: float32 [n].

    Attributes:
        offline: [steps, states, width] as LatentSync reads the recording.
        mean: [states, width] over its steps.
    """

    def __init__(self, encoder: WhisperEncoder, samples: F32) -> None:
        self.encoder = encoder
        self.samples = samples
        self.block_steps = encoder.spec.table_rows
        self.offline = self.offline_of(samples)
        self.mean = self.offline.mean(0)

    def offline_of(self, samples: F32) -> Tensor:
        """[steps, states, width] of a recording."""
        mel = torch.from_numpy(whisper_log_mel(samples, self.encoder.spec.n_mels))
        return offline_states(self.encoder, mel)

    def begun_later(self, seconds: int) -> Likeness:
        """The offline features of the same sound in a recording that begins later.

        What the published features vary by with their place: no stream need be nearer.
        """
        steps = seconds * SAMPLE_RATE_HZ // STEP_SAMPLES
        later = self.offline_of(self.samples[seconds * SAMPLE_RATE_HZ :])
        return Likeness.of(later, self.offline[steps : steps + len(later)], self.mean)

    def ends(self, count: int, longest: int, apart: int = 0) -> list[int]:
        """Steps before which windows of up to `longest` positions end, inside Whisper's blocks.

        Args:
            apart: give each end a second one so many steps later.
        """
        block, late = self.block_steps, EDGE_STEPS + apart
        found = [
            end
            for end in range(longest, len(self.offline) - late, 2)
            if longest <= end % block <= block - late
        ]
        chosen = found[:: max(len(found) // count, 1)][:count]
        return [end + more for end in chosen for more in ((0, apart) if apart else (0,))]

    def windows(self, spec: AudioSpec, ends: Sequence[int], samples: F32 | None = None) -> F32:
        """The log-mel of the windows whose sound ends there, from a stream."""
        stream = FeatureStream(spec)
        stream.push(self.samples if samples is None else samples)
        stream.push(np.zeros(STEP_SAMPLES, np.float32))
        frames = [(end - AUDIO_STEPS_AHEAD - spec.guard) // 2 for end in ends]
        return np.concatenate([stream.windows(range(frame, frame + 1)) for frame in frames])

    def states(self, spec: AudioSpec, ends: Sequence[int], rows: Rows, mel: F32) -> Tensor:
        """[windows, positions, states, width]."""
        stack = self.encoder.encoder
        outputs = []
        for end, window in zip(ends, torch.from_numpy(mel), strict=True):
            sound = spec.positions - spec.tail
            row = (end - sound) % self.block_steps if rows is None else rows
            stack.spec = replace(
                self.encoder.spec,
                positions=spec.positions,
                table_positions=self.block_steps,
                first_row=row,
            )
            outputs.append(self.encoder.states(window[None])[0])
        stack.spec = self.encoder.spec
        return torch.stack(outputs)

    def streamed(self, spec: AudioSpec, ends: Sequence[int], rows: Rows) -> Tensor:
        """[windows, positions, states, width] of the stream's windows that end there."""
        return self.states(spec, ends, rows, self.windows(spec, ends))

    def likeness(
        self, spec: AudioSpec, ends: Sequence[int], states: Tensor, before_end: int
    ) -> Likeness:
        """Of the ten steps that lie `before_end` steps before the windows' last sound."""
        last = spec.positions - spec.tail - before_end
        ours = states[:, last - AUDIO_STEPS : last]
        theirs = torch.stack(
            [self.offline[end - before_end - AUDIO_STEPS : end - before_end] for end in ends]
        )
        return Likeness.of(ours, theirs, self.mean)
