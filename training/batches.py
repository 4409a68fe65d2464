"""Runs of frames with their sources, jittered and encoded: what the denoiser is trained on.

Nothing is cached in latents: the encoder is linear, so crops are jittered, masked and encoded
anew for every batch. A batch is a function of its number, so that a run that was cut short goes on
with the very batches it would have seen.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import torch
from torch import Tensor

from engine.face.mask import keep_mask
from engine.media import F32
from engine.models.tiny_codec import TinyCodec
from training.dataset import (
    BUNDLED_FACE,
    RESOLUTION,
    CropStore,
    Frames,
    SpeechStore,
    Split,
    colour_jitter,
    to_tensor,
)

REACH = 2  # pixels by which a run is moved at most


@dataclass(frozen=True, slots=True)
class Batch:
    """Runs of frames.

    Attributes:
        pictures, sources: [b, f, 3, R, R] in [-1, 1], with the mouth to draw and with another.
        motion: [b, f, 2, s, s] from the first to the second, in cells.
        whole: [b, f, C, s, s] latents of the pictures: what is to be predicted.
        reference: of the sources.
        masked: of the sources with the generated part greyed out.
        mouth: [b, f, 7].
        mask: [1, 1, s, s] latent mask, 1 = keep.
        power: [b, n_mels, rows] log10 mel power (`training.dataset.windows_of`); of spoken runs.
    """

    pictures: Tensor
    sources: Tensor
    motion: Tensor
    whole: Tensor
    reference: Tensor
    masked: Tensor
    mouth: Tensor
    mask: Tensor
    power: Tensor | None


def keep_pixels() -> Tensor:
    """[R, R]: 1 where the bundled model's crop is kept, 0 where it is generated."""
    return torch.from_numpy(keep_mask(BUNDLED_FACE, RESOLUTION))


def latent_mask(pixel_mask: Tensor, factor: int) -> Tensor:
    """[1, 1, s, s] of a mask [R, R]: the corner pixel of every latent."""
    return pixel_mask[None, None, ::factor, ::factor]


def jittered(run: Frames, rng: np.random.Generator) -> Frames:
    """A run moved by the same few pixels, edges repeated, and half of the time mirrored."""
    dx, dy = (int(v) for v in rng.integers(-REACH, REACH + 1, size=2))
    size = run.crops.shape[1]
    rows = np.clip(np.arange(size) - dy, 0, size - 1)
    columns = np.clip(np.arange(size) - dx, 0, size - 1)
    mirror = bool(rng.random() < 0.5)
    if mirror:
        columns = columns[::-1]
    motion = _moved_field(run.motion, dx / (size / run.motion.shape[1]), dy, size, mirror=mirror)
    picked = (slice(None), rows[:, None], columns)
    return Frames(run.crops[picked], run.sources[picked], motion, run.mouth)


def _moved_field(motion: F32, dx_cells: float, dy: int, size: int, *, mirror: bool) -> F32:
    cells = motion.shape[1]
    move = np.array([[1, 0, dx_cells], [0, 1, dy * cells / size]], np.float32)
    fields = [
        cv2.warpAffine(
            field, move, (cells, cells), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
        )
        for field in motion
    ]
    moved = np.stack(fields).astype(np.float32)
    return moved[:, :, ::-1] * np.array([-1.0, 1.0], np.float32) if mirror else moved


def frame_batch(store: CropStore, codec: TinyCodec, count: int, split: Split, seed: int) -> Batch:
    """`count` random runs of one frame."""
    rng = np.random.default_rng((11, seed))
    frames = store.draw_frames(count, split, rng)
    runs = [frames.part(index, index + 1) for index in range(count)]
    return _encoded([jittered(run, rng) for run in runs], codec, seed, None)


def clip_batch(
    store: CropStore,
    speech: SpeechStore,
    codec: TinyCodec,
    shape: tuple[int, int],
    split: Split,
    seed: int,
) -> Batch:
    """`shape` = (clips, frames) random runs of speaking faces."""
    rng = np.random.default_rng((12, seed))
    count, frames = shape
    clips = [clip for clip in store.clips(split) if clip.speech and clip.frames >= frames]
    runs, power = [], []
    for index in rng.integers(len(clips), size=count):
        clip = clips[index]
        first = int(rng.integers(clip.frames - frames + 1))
        runs.append(jittered(store.run_of_frames(clip, first, frames), rng))
        power.append(speech.rows(clip, first, frames).T)
    return _encoded(runs, codec, seed, torch.from_numpy(np.stack(power)))


def _encoded(runs: list[Frames], codec: TinyCodec, seed: int, power: Tensor | None) -> Batch:
    frames = len(runs[0].crops)
    both = np.concatenate([np.concatenate([run.crops, run.sources]) for run in runs])
    generator = torch.Generator().manual_seed(seed)
    flat = colour_jitter(to_tensor(both), generator, group=2 * frames)
    pair = flat.reshape(len(runs), 2, frames, *flat.shape[1:])
    pictures, sources = pair[:, 0], pair[:, 1]
    pixel_mask = keep_pixels()

    def encode(images: Tensor) -> Tensor:
        latents = codec.encode(images.flatten(0, 1))
        return latents.reshape(*images.shape[:2], *latents.shape[1:])

    with torch.no_grad():
        whole, reference = encode(pictures), encode(sources)
        masked = encode(sources * pixel_mask)
    return Batch(
        pictures,
        sources,
        torch.from_numpy(np.stack([run.motion for run in runs])).permute(0, 1, 4, 2, 3),
        whole,
        reference,
        masked,
        torch.from_numpy(np.stack([run.mouth for run in runs])),
        latent_mask(pixel_mask, codec.spec.downscale),
        power,
    )
