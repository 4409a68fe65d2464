"""What a step reads: clips of 16 frames, each with a reference from elsewhere in the same video.

Which clips batch n holds is a function of the seed and n, so that a resumed run reads what an
uninterrupted one would have read.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from engine.audio.features import FeatureStream
from engine.errors import MediaError
from engine.media import F32, FRAME_SAMPLES, U8
from engine.spec import AudioSpec, ModelSpec
from engine.windows import due_sample
from training.finetune.clips import Clip, ClipEntry, SkipReport, read_clip
from training.losses.sync_mel import columns_of, sync_mel

# The reference must not show the mouth that is to be made: it lies a clip or more away, which
# leaves a choice of places in videos of three times the length.
LEAST_CLIPS = 3
MOST_DRAWS = 200  # after as many bad files in a row there is no data


@dataclass(frozen=True, slots=True)
class Batch:
    """b clips of f frames.

    Attributes:
        truth: uint8 RGB [b, f, R, R, 3].
        reference: of that shape, other frames of the same videos.
        mel: float32 [b, f, n_mels, mel_frames], the log-mel window of every frame.
        sync_mel: float32 [b, 1, 80, 52], the sound of all frames as StableSyncNet reads it.
    """

    truth: U8
    reference: U8
    mel: F32
    sync_mel: F32


class ClipSource:
    """Draws batches from the clips of a prepared folder."""

    def __init__(
        self,
        entries: Sequence[ClipEntry],
        spec: ModelSpec,
        frames: int,
        seed: int,
        report: SkipReport,
    ) -> None:
        """A source.

        Raises:
            MediaError: no entries.
        """
        if not entries:
            raise MediaError("expected clips to train on, found none; see the list of the skipped")
        self._entries = entries
        self._spec = spec
        self._frames = frames
        self._seed = seed
        self._report = report
        self._bad: set[int] = set()

    def batch(self, number: int, size: int) -> Batch:
        """Batch `number`.

        Raises:
            MediaError: hardly any file can be read.
        """
        dice = np.random.default_rng((self._seed, number))
        drawn = [self._draw(dice) for _ in range(size)]
        truth, reference, mel, heard = (np.stack(parts) for parts in zip(*drawn, strict=True))
        return Batch(truth, reference, mel, heard)

    def _draw(self, dice: np.random.Generator) -> tuple[U8, U8, F32, F32]:
        for _ in range(MOST_DRAWS):
            index = int(dice.integers(len(self._entries)))
            if index in self._bad:
                continue
            entry = self._entries[index]
            try:
                return self._cut(read_clip(entry.path, self._spec.resolution), dice)
            except MediaError as error:
                self._bad.add(index)
                self._report.add(entry.path.name, str(error))
        raise MediaError(f"expected a clip that can be read, got {MOST_DRAWS} bad ones in a row")

    def _cut(self, clip: Clip, dice: np.random.Generator) -> tuple[U8, U8, F32, F32]:
        frames, length = self._frames, len(clip.pictures)
        if length < LEAST_CLIPS * frames:
            raise MediaError(f"expected {LEAST_CLIPS * frames} frames, found {length}")
        columns = sync_mel(clip.samples)
        # Sound may end before the picture does: the cut must lie where both are.
        last = min(length, len(clip.samples) // FRAME_SAMPLES) - frames
        if last < 0:
            raise MediaError(f"expected sound for {frames} frames, found {len(clip.samples)}")
        start = int(dice.integers(last + 1))
        elsewhere = [place for place in range(length - frames + 1) if abs(place - start) >= frames]
        reference = elsewhere[int(dice.integers(len(elsewhere)))]
        shown = range(start, start + frames)
        heard = columns_of(start, frames)
        return (
            clip.pictures[start : start + frames],
            clip.pictures[reference : reference + frames],
            log_mel_windows(clip.samples, shown, self._spec.audio),
            columns[None, :, heard.start : heard.stop],
        )


def log_mel_windows(samples: F32, frames: range, audio: AudioSpec) -> F32:
    """float32 [f, n_mels, mel_frames] of frames of a recording, as a stream would give them.

    After the recording's end there is silence.
    """
    stream = FeatureStream(audio)
    missing = max(due_sample(frames, audio) - len(samples), 0)
    stream.push(np.pad(samples, (0, missing)))
    return stream.windows(frames)
