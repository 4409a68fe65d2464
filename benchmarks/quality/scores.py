"""The figures of one run, and of the floors that it is held against."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from benchmarks.quality.expert import ExpertJudge
from benchmarks.quality.material import Take, lips_box
from benchmarks.quality.metrics import (
    F64,
    changes,
    hop_line_db,
    latent_distance,
    look_error,
    phase_error,
    psnr_db,
    seam,
    sharpness,
)
from benchmarks.quality.reader import MouthReader
from benchmarks.quality.runs import Run
from engine.face.mask import mask_image, mask_latents
from engine.media import F32, U8
from engine.spec import ModelSpec
from training.sync_clips import Expert

OPENING: Final = 0


@dataclass(frozen=True, slots=True)
class Judge:
    """What the runs of one model are held against.

    Attributes:
        box: the lips in crop pixels.
        readers: one a take.
        expert: on sync; None: it is not asked.
    """

    spec: ModelSpec
    takes: Sequence[Take]
    box: tuple[int, int, int, int]
    readers: tuple[MouthReader, ...]
    expert: ExpertJudge | None = None

    @classmethod
    def of(cls, spec: ModelSpec, takes: Sequence[Take], expert: Expert | None = None) -> Judge:
        box = lips_box(spec.face, spec.resolution)
        readers = tuple(MouthReader.fit(take.reader, take.reader_mouth, box) for take in takes)
        asked = None if expert is None else ExpertJudge.of(expert, spec, takes)
        return cls(spec, takes, box, readers, asked)

    def over(self, takes: Sequence[Take]) -> Judge:
        """The same readers and expert, over shorter takes of the same faces."""
        expert = None if self.expert is None else self.expert.over(takes)
        return dataclasses.replace(self, takes=takes, expert=expert)

    def truths(self, frames: int) -> list[U8]:
        """uint8 [frames, R, R, 3] of each take, round and round."""
        return [take.truth[np.arange(frames) % take.frames] for take in self.takes]

    def mouths(self, frames: int) -> list[F32]:
        """float32 [frames, 7] of each take, round and round."""
        return [take.speech.mouth[np.arange(frames) % take.frames] for take in self.takes]

    def changes(self, clips: Sequence[U8]) -> list[F64]:
        return [changes(clip, self.box) for clip in clips]


def score(judge: Judge, clips: Sequence[U8], hop: int, period: int | None = None) -> dict[str, Any]:
    """All figures of clips [frames, R, R, 3], one a take, ready for JSON.

    Args:
        period: frames after which the takes began again (`metrics.seam`).

    Returns:
        `seam` (`metrics.Seam`) and `hop_line_db`, with the truth's beside it; `sync`: the
        opening's correlation, lag, spread over the truth's, mean error and that by place in
        the hop, closed lips found; `expert`: offset, distance and confidence by the sync
        expert, None where it was not asked; `change_ratio`: mean frame difference over the truth's,
        above 1 flickers; `mouth_psnr_db`, `sharpness_ratio` and `look_error` against the truth.
    """
    frames = len(clips[0])
    truths = judge.truths(frames)
    changed, real = judge.changes(clips), judge.changes(truths)
    seams = seam(changed, real, hop, period)
    sharp = [float(sharpness(clip, judge.box).mean()) for clip in clips]
    ideal = [float(sharpness(truth, judge.box).mean()) for truth in truths]
    generated = 1.0 - mask_image(judge.spec)
    looks = [look_error(clip, t, generated).mean() for clip, t in zip(clips, truths, strict=True)]
    return {
        "frames": frames * len(clips),
        "seam": None if seams is None else _rounded(dataclasses.asdict(seams)),
        "hop_line_db": _round(hop_line_db(changed, hop)),
        "hop_line_truth_db": _round(hop_line_db(real, hop)),
        "change_ratio": _round(float(np.concatenate(changed).mean() / np.concatenate(real).mean())),
        "sync": sync(judge, clips, hop),
        "expert": None if judge.expert is None else judge.expert.score(clips),
        "mouth_psnr_db": _round(psnr_db(clips, truths, judge.box)),
        "sharpness_ratio": _round(float(np.sum(sharp) / np.sum(ideal))),
        "look_error": _round(float(np.mean(looks))),
    }


def sync(judge: Judge, clips: Sequence[U8], hop: int) -> dict[str, Any]:
    """How the mouths follow what is said."""
    from training.speech.scores import mouth_scores

    frames = len(clips[0])
    mouths = judge.mouths(frames)
    found = [reader.read(clip) for reader, clip in zip(judge.readers, clips, strict=True)]
    spans = [(place * frames, frames) for place in range(len(clips))]
    scores = mouth_scores(np.concatenate(found), np.concatenate(mouths), spans)
    openings = [item[:, OPENING] for item in found]
    wanted = [item[:, OPENING] for item in mouths]
    by_place = phase_error(openings, wanted, hop)
    error = np.concatenate([np.abs(a - b) for a, b in zip(openings, wanted, strict=True)])
    return {
        "opening_correlation": scores["opening"],
        "opening_ratio": scores["opening_ratio"],
        "lag_frames": scores["lag_frames"],
        "closure_recall": scores["closure_recall"],
        "closure_precision": scores["closure_precision"],
        "error": _round(float(error.mean())),
        "error_by_place": [_round(value) for value in by_place.mean],
        "error_spread": _round(by_place.spread),
    }


def distance(judge: Judge, run: Run, reference: Run, frames: int) -> dict[str, Any]:
    """How far a run lies from another over their first frames, which show the same."""
    ours, theirs = ([clip[:frames] for clip in item.clips] for item in (run, reference))
    result: dict[str, Any] = {"mouth_psnr_db": _round(psnr_db(ours, theirs, judge.box))}
    if run.latents is not None and reference.latents is not None:
        mine, its = ([item[:frames] for item in each] for each in (run.latents, reference.latents))
        generated = 1.0 - mask_latents(judge.spec)
        result["latents"] = _round(latent_distance(mine, its, generated))
    return result


def _round(value: float | None) -> float | None:
    return None if value is None else round(value, 4)


def _rounded(values: dict[str, Any]) -> dict[str, Any]:
    return {
        name: _round(value) if isinstance(value, float) else value for name, value in values.items()
    }
