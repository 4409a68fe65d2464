"""The judges of sync that there are, and how one is asked for.

- LatentSync's own network (`engine.models.syncnet`), where `stable_syncnet.pt` is at hand. What
  confidence it gives to good clips has to be measured with the published weights, so it has no
  limit of its own.
- This project's small expert (`training.sync_network`), which has seen drawn people only.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from engine.errors import ConfigError
from engine.face.align import latentsync_face
from engine.media import F32, FRAME_SAMPLES, U8
from engine.models.syncnet import StableSyncNet, load_syncnet
from training.dataset import to_tensor
from training.losses.sync import SYNC_FRAMES, SYNC_PIXELS
from training.losses.sync_mel import columns_of, sync_mel
from training.prepare.sync import MARGIN_FRAMES, SyncCurve, SyncJudge
from training.sync_inputs import mouth_views, sound_rows
from training.sync_network import WEIGHTS, WEIGHTS_FILE, SyncExpert, load_expert
from training.sync_score import distances

# Of seven clips of drawn people, `training.prepare.confidence`: 0.37 and more with their own
# sound, less than 0.15 with 95 of 100 others.
EXPERT_MIN_CONFIDENCE: Final = 0.2
_DIGITS: Final = 12
_STRIDE: Final = 4  # frames between two windows of pictures
_BATCH: Final = 8


@dataclass(frozen=True, slots=True)
class JudgePlan:
    """Which judge a process should open.

    Attributes:
        path: an expert's folder or the published file.
    """

    path: Path

    @property
    def name(self) -> str:
        """The judge and a digest of its weights.

        Raises:
            ConfigError: they are not there.
        """
        weights = self.path / WEIGHTS_FILE if self.path.is_dir() else self.path
        if not weights.is_file():
            raise ConfigError(f"expected a sync network's weights at {weights}, found none")
        kind = "expert" if self.path.is_dir() else "published"
        with weights.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        return f"{kind} {digest[:_DIGITS]}"

    @property
    def min_confidence(self) -> float | None:
        """The judge's own limit; None: it has none, and must be given one."""
        return EXPERT_MIN_CONFIDENCE if self.path.is_dir() else None

    def open(self) -> SyncJudge:
        """The judge, on one thread.

        Raises:
            ModelError: its weights cannot be read, or are another network's.
        """
        torch.set_num_threads(1)
        if self.path.is_dir():
            return ExpertJudge(load_expert(self.path))
        return PublishedJudge(load_syncnet(self.path))


def judge_plan(asked: str) -> JudgePlan | None:
    """The judge that `--sync` asks for: none, expert, or by its weights' place."""
    if asked == "none":
        return None
    return JudgePlan(WEIGHTS if asked == "expert" else Path(asked))


@dataclass(frozen=True, slots=True)
class ExpertJudge:
    """The small expert."""

    expert: SyncExpert

    def curve(self, crops: U8, samples: F32) -> SyncCurve | None:
        resolution = crops.shape[1]
        views = mouth_views(crops, latentsync_face(resolution), resolution)
        heard = self.expert.hear(sound_rows(samples))
        table = distances(self.expert.see(views), heard, MARGIN_FRAMES, MARGIN_FRAMES)
        return SyncCurve(table.mean(axis=0), len(table)) if len(table) else None


@dataclass(frozen=True, slots=True)
class PublishedJudge:
    """LatentSync's network, on every fourth window of pictures and on every window of sound."""

    net: StableSyncNet

    @torch.inference_mode()
    def curve(self, crops: U8, samples: F32) -> SyncCurve | None:
        if len(crops) < SYNC_FRAMES:
            return None
        starts = range(0, len(crops) - SYNC_FRAMES + 1, _STRIDE)
        pictures = to_tensor(crops)
        if crops.shape[1] != SYNC_PIXELS:
            size = (SYNC_PIXELS, SYNC_PIXELS)
            pictures = F.interpolate(pictures, size, mode="bicubic", antialias=True)
        lower = pictures[:, :, SYNC_PIXELS // 2 :]
        windows = [lower[start : start + SYNC_FRAMES].flatten(0, 1) for start in starts]
        seen = _embedded(self.net.visual_encoder, windows)
        mel = torch.from_numpy(sync_mel(samples))
        heard_frames = len(samples) // FRAME_SAMPLES - SYNC_FRAMES + 1
        columns = [columns_of(start, SYNC_FRAMES) for start in range(heard_frames)]
        heard = _embedded(
            self.net.audio_encoder, [mel[None, :, part.start : part.stop] for part in columns]
        )
        rows = [
            distances(one[None], heard, MARGIN_FRAMES + start, MARGIN_FRAMES)[0]
            for one, start in zip(seen, starts, strict=True)
        ]
        return SyncCurve(np.mean(rows, axis=0), len(rows))


def _embedded(encoder: nn.Module, windows: Sequence[Tensor]) -> F32:
    """[n, D] of unit length."""
    parts = []
    for first in range(0, len(windows), _BATCH):
        found = encoder(torch.stack(list(windows[first : first + _BATCH]))).flatten(1)
        parts.append(F.normalize(found, dim=1).numpy())
    return np.concatenate(parts)
