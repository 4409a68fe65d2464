"""What is wrong with a causal model's rollout: distances to truth and teacher, and jumps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from training.causal_rollout import Estimate
from training.painting import latent_loss

TRUTH_WEIGHT: Final = 1.0
TEACHER_WEIGHT: Final = 1.0
WARP_WEIGHT: Final = 1.0  # of the warp channels, which only the teacher knows
CHANGE_WEIGHT: Final = 1.0
BORDER_GAIN: Final = 4.0  # of a change across a hop's border, over one inside a hop


@dataclass(frozen=True, slots=True)
class Errors:
    """What is wrong with a rollout, in latents; `total` is what is minimised."""

    truth: Tensor
    teacher: Tensor
    warp: Tensor
    change: Tensor

    @property
    def total(self) -> Tensor:
        return (
            TRUTH_WEIGHT * self.truth
            + TEACHER_WEIGHT * self.teacher
            + WARP_WEIGHT * self.warp
            + CHANGE_WEIGHT * self.change
        )

    def named(self) -> dict[str, Tensor]:
        """The single errors, for the log."""
        return {
            "truth": self.truth,
            "teacher": self.teacher,
            "warp": self.warp,
            "change": self.change,
        }


def change_loss(clean: Tensor, truth: Tensor, hop: int, weight: Tensor) -> Tensor:
    """How far the change from frame to frame is from the truth's, that across hop borders most.

    Args:
        clean, truth: [b, C, F, s, s], from a hop's first frame on.
        weight: [s, s].
    """
    changes = clean.shape[2] - 1
    at_border = torch.arange(1, changes + 1, device=clean.device) % hop == 0
    gain = torch.where(at_border, BORDER_GAIN, 1.0)
    gain = gain / gain.mean()
    return latent_loss(clean.diff(dim=2), truth.diff(dim=2), gain[:, None, None] * weight)


def errors_of(
    rollout: Sequence[Estimate],
    teacher: Sequence[Estimate],
    truth: Tensor,
    hop: int,
    learn_from: int,
    weight: Tensor,
) -> Errors:
    """The errors of a rollout's learnt frames, means over its steps; the change is the last's.

    Args:
        teacher: the bidirectional model's estimates from the same noisy latents.
        truth: [b, C, F, s, s].
        learn_from: the first learnt frame, a hop's first.
        weight: [s, s].
    """
    rows = slice(learn_from, None)
    aim = truth[:, :, rows]
    own = [estimate.clean[:, :, rows] for estimate in rollout]
    to_truth = [latent_loss(clean, aim, weight) for clean in own]
    to_teacher = [
        latent_loss(clean, other.clean[:, :, rows], weight)
        for clean, other in zip(own, teacher, strict=True)
    ]
    warps = [
        latent_loss(mine.warp[:, :, rows], other.warp[:, :, rows], weight)
        for mine, other in zip(rollout, teacher, strict=True)
        if mine.warp.shape[1]
    ]
    return Errors(
        torch.stack(to_truth).mean(),
        torch.stack(to_teacher).mean(),
        torch.stack(warps).mean() if warps else aim.new_zeros(()),
        change_loss(own[-1], aim, hop, weight),
    )
