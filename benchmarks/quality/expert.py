"""What the sync expert says of clips: offset, distance, confidence (`training.sync_score`).

It knows neither the face nor the truth: it was trained on other faces and voices, and sees
mouths of 32 px. So it judges what the reader of openings cannot, whether a mouth that nobody
measured fits its sound, and it misses what such a small picture does not show.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from benchmarks.quality.material import Take
from engine.media import F32, FRAME_SAMPLES, U8
from engine.spec import ModelSpec
from training.sync_clips import Expert
from training.sync_inputs import mouth_views, sound_rows
from training.sync_score import looped_distances, sync_score

_LOOP_FRAMES: Final = 32  # of a take's beginning that follow its end, for windows across it


@dataclass(frozen=True, slots=True)
class ExpertJudge:
    """The expert, and the takes' sound as it hears it.

    Attributes:
        heard: unit embeddings [frames, D] of each take's sound, round and round.
    """

    expert: Expert
    spec: ModelSpec
    heard: tuple[F32, ...]

    @classmethod
    def of(cls, expert: Expert, spec: ModelSpec, takes: Sequence[Take]) -> ExpertJudge:
        return cls(expert, spec, tuple(_hear(expert, take) for take in takes))

    def over(self, takes: Sequence[Take]) -> ExpertJudge:
        """The same expert, over other takes."""
        return ExpertJudge.of(self.expert, self.spec, takes)

    def score(self, clips: Sequence[U8]) -> dict[str, Any] | None:
        """Of clips [frames, R, R, 3], one a take, together; None: shorter than a window."""
        tables = []
        for clip, heard in zip(clips, self.heard, strict=True):
            views = mouth_views(clip, self.spec.face, self.spec.resolution)
            tables.append(looped_distances(self.expert.see(views), heard))
        found = sync_score(tables)
        return None if found is None else found.to_dict()


def _hear(expert: Expert, take: Take) -> F32:
    samples = np.resize(take.speech.samples, (take.frames + _LOOP_FRAMES) * FRAME_SAMPLES)
    return expert.hear(sound_rows(samples))[: take.frames]
