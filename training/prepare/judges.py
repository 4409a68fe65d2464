"""The judges of sync that there are, and how one is asked for.

- LatentSync's own network (`engine.models.syncnet`), where `stable_syncnet.pt` is at hand. What
  confidence it gives to good clips has to be measured with the published weights, so it has no
  limit of its own.
- This project's small expert (`training.sync_network`), which has seen drawn people only.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import torch

from engine.errors import ConfigError
from engine.face.align import latentsync_face
from engine.media import F32, U8
from training.prepare.sync import MARGIN_FRAMES, SyncCurve, SyncJudge
from training.sync_inputs import mouth_views, sound_rows
from training.sync_network import WEIGHTS, WEIGHTS_FILE, SyncExpert, load_expert
from training.sync_score import distances

# Of seven drawn people's clips, `training.prepare.confidence`: 0.030 and more with their own sound,
# less with 95 of 100 others.
EXPERT_MIN_CONFIDENCE: Final = 0.03
_DIGITS: Final = 12


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
        return ExpertJudge(load_expert(self.path))


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
