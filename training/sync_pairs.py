"""Batches for the sync expert: mouths, their own sound, and everything that is not theirs.

Windows of one clip at several offsets are each other's hard negatives: same face, same
voice, another time. Other clips of the batch are the easy ones, and the clips' sources (the
same frames with another mouth) are pictures that no sound of the batch belongs to.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from engine.media import F32, U8
from training.audio_encoder import to_log_mel, vary
from training.dataset import Clip, CropStore, SpeechStore, Split, colour_jitter, to_tensor
from training.mouth import OPENING
from training.sync_inputs import (
    DOUBLE,
    LOG_FLOOR,
    ROWS_PER_FRAME,
    VIEW,
    VIEW_BOX,
    rows_of,
    views_by,
)

SHIFT: Final = 5.0  # pixels of the 128 px crop by which a clip's view is off, either way
ZOOM: Final = 0.12
BLUR: Final = 0.9  # pixels of the view: generated mouths are softer than rendered ones
NOISE: Final = 0.03
# Root mean square difference of two mouth tracks below which nobody could tell them apart:
# both rest, or hold the same vowel.
ALIKE: Final = 0.04
MOVES: Final = 0.06  # spread of the opening in a window that shows speech

Mask = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class PairBatch:
    """What one step learns from.

    Attributes:
        frames: float32 [v, 3 * T, 32, 32] in [-1, 1]; row i < a shows sound i, later rows are
            of sources and show none.
        mel: float32 [a, 1, 40, 2 * T] log-mel.
        left_out: [v, a] pairs that do not belong together and might as well.
        mouths: float32 [a, T, 7] of the sounds, and of the first a rows of pictures.
    """

    frames: Tensor
    mel: Tensor
    left_out: Tensor
    mouths: Tensor


@dataclass(frozen=True, slots=True)
class BatchShape:
    """Numbers of a batch.

    Attributes:
        clips: faces that speak.
        windows: of each of them, at different offsets.
        frames: of a window.
    """

    clips: int
    windows: int
    frames: int


class PairSource:
    """Draws batches from a corpus; the same number gives the same batch."""

    def __init__(
        self, store: CropStore, speech: SpeechStore, shape: BatchShape, split: Split = "train"
    ) -> None:
        """Raises ValueError where no clip is long enough."""
        fewest = shape.frames + shape.windows - 1
        self._clips = [c for c in store.clips(split) if c.speech and c.frames >= fewest]
        if not self._clips:
            raise ValueError(f"expected a clip of at least {fewest} frames with speech, found none")
        self._store, self._speech, self.shape = store, speech, shape
        self._rows: dict[str, NDArray[np.float16]] = {}

    def __len__(self) -> int:
        """Clips that are drawn from."""
        return len(self._clips)

    def batch(self, number: int, seed: int = 0) -> PairBatch:
        """Batch `number` of a training run."""
        rng = np.random.default_rng((41, seed, number))
        generator = torch.Generator().manual_seed(int(rng.integers(1 << 31)))
        pictures, power, mouths, astray = [], [], [], []
        for index in rng.integers(len(self._clips), size=self.shape.clips):
            clip = self._clips[index]
            starts = self._starts(clip, rng)
            shown, other = self._views(clip, starts, rng)
            pictures.append(shown)
            astray.append(other)
            power.append(self._power(clip, starts))
            mouths.append(self._mouths(clip, starts))
        frames = np.concatenate([*pictures, *astray])
        own = np.concatenate(mouths)
        mel = vary(torch.from_numpy(np.concatenate(power)), generator)
        return PairBatch(
            self._prepared(frames, generator),
            to_log_mel(mel, LOG_FLOOR)[:, None],
            torch.from_numpy(left_out(own, len(frames))),
            torch.from_numpy(own),
        )

    def _starts(self, clip: Clip, rng: np.random.Generator) -> list[int]:
        room = clip.frames - self.shape.frames + 1
        return sorted(int(v) for v in rng.choice(room, self.shape.windows, replace=False))

    def _views(self, clip: Clip, starts: list[int], rng: np.random.Generator) -> tuple[U8, U8]:
        """Windows [w, T, 32, 32, 3] of a clip and one [1, T, ...] of its source, seen alike."""
        look = Look.sample(rng)
        length = self.shape.frames
        first, last = starts[0], starts[-1] + length
        shown = look.views(self._store.crops(clip)[first:last])
        elsewhere = starts[int(rng.integers(len(starts)))]
        source = look.views(self._store.source(clip)[elsewhere : elsewhere + length])
        windows = np.stack([shown[start - first : start - first + length] for start in starts])
        return windows, source[None]

    def _power(self, clip: Clip, starts: list[int]) -> F32:
        """[w, 40, 2 * T] log10 mel power."""
        if clip.speech not in self._rows:
            self._rows[clip.speech] = rows_of(self._speech.power(clip.speech)).astype(np.float16)
        rows = self._rows[clip.speech]
        length = ROWS_PER_FRAME * self.shape.frames
        places = [ROWS_PER_FRAME * (clip.start_frame + start) for start in starts]
        return np.stack([rows[row : row + length].T for row in places]).astype(np.float32)

    def _mouths(self, clip: Clip, starts: list[int]) -> F32:
        mouth = self._store.mouth(clip)
        return np.stack([mouth[start : start + self.shape.frames] for start in starts])

    def _prepared(self, windows: U8, generator: torch.Generator) -> Tensor:
        """[v, 3 * T, 32, 32] of windows [v, T, 32, 32, 3], each in another light and softness."""
        count, frames = windows.shape[:2]
        flat = to_tensor(windows.reshape(-1, VIEW, VIEW, 3))
        flat = colour_jitter(flat, generator, group=frames)
        amount = NOISE * torch.rand(count, 1, 1, 1, generator=generator)
        together = flat.reshape(count, 3 * frames, VIEW, VIEW)
        return together + amount * torch.randn(together.shape, generator=generator)


@dataclass(frozen=True, slots=True)
class Look:
    """How one clip's crops become views: place, size, mirror and softness.

    Attributes:
        affine: [2, 3] from the crop to the view at twice its size.
        blur: pixels of the view, 0 for none.
    """

    affine: F32
    blur: float

    @classmethod
    def sample(cls, rng: np.random.Generator) -> Look:
        left, top, right, bottom = VIEW_BOX
        dx, dy = rng.uniform(-SHIFT, SHIFT, 2)
        scale = DOUBLE * VIEW / (right - left) * float(np.exp(rng.uniform(-ZOOM, ZOOM)))
        mirror = -1.0 if rng.random() < 0.5 else 1.0
        x, y = (left + right - 1) / 2 + dx, (top + bottom - 1) / 2 + dy
        middle = (DOUBLE * VIEW - 1) / 2
        affine = np.asarray(
            ((mirror * scale, 0, middle - mirror * scale * x), (0, scale, middle - scale * y)),
            np.float32,
        )
        return cls(affine, float(max(rng.uniform(-BLUR, BLUR), 0.0)))

    def views(self, crops: U8) -> U8:
        """uint8 [n, 32, 32, 3] of crops [n, 128, 128, 3]."""
        views = views_by(crops, self.affine)
        if self.blur > 0.2:
            for view in views:
                cv2.GaussianBlur(view, (0, 0), self.blur, dst=view)
        return views


def left_out(mouths: F32, pictures: int) -> Mask:
    """[pictures, a] pairs that are neither right nor surely wrong.

    Args:
        mouths: [a, T, 7] of the sounds and of the first a windows of pictures.
        pictures: windows in all; those after the first a are of sources, whose mouths are not
            known: they are wrong for sounds that move a mouth, and undecided for the rest.
    """
    count = len(mouths)
    flat = mouths.reshape(count, -1).astype(np.float64)
    square = (flat**2).sum(axis=1)
    apart = (square[:, None] + square[None] - 2.0 * flat @ flat.T) / flat.shape[1]
    alike = apart < ALIKE**2
    np.fill_diagonal(alike, False)
    still = mouths[:, :, OPENING].std(axis=1) < MOVES
    return np.concatenate([alike, np.tile(still, (pictures - count, 1))])
