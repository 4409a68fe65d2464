"""Clips of people's own videos for a conversion, as `training.prepare` leaves them."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from engine.media import U8
from engine.spec import ModelSpec
from training.dataset import to_tensor
from training.finetune import batches
from training.finetune.clips import SkipReport, read_listing
from training.model_crops import ClipSource, SpokenClips


def prepared_source(folder: Path, spec: ModelSpec, frames: int, skipped: Path) -> ClipSource:
    """Draws from the training split of a prepared folder.

    The picture is its own source, since the mask hides its mouth; the reference comes from
    elsewhere in the same video.

    Args:
        frames: of the longest clip that will be drawn; videos too short for it are left out.
        skipped: where it is written what is left out, and why.

    Raises:
        MediaError: there is no listing, or nothing in it can be used.
    """
    report = SkipReport(skipped)
    listed = read_listing(folder, batches.LEAST_CLIPS * frames, report)
    entries = [entry for entry in listed if entry.split == "train"]
    by_length: dict[int, batches.ClipSource] = {}

    def draw(shape: tuple[int, int], seed: int) -> SpokenClips:
        count, length = shape
        if length not in by_length:
            by_length[length] = batches.ClipSource(entries, spec, length, 0, report)
        batch = by_length[length].batch(seed, count)
        pictures = _pictures(batch.truth)
        references = _pictures(batch.reference)
        return SpokenClips(pictures, pictures, torch.from_numpy(batch.mel), references)

    return draw


def _pictures(crops: U8) -> Tensor:
    """[b, f, 3, R, R] in [-1, 1] of crops [b, f, R, R, 3]."""
    flat = to_tensor(crops.reshape(-1, *crops.shape[2:]))
    return flat.reshape(*crops.shape[:2], *flat.shape[1:])
