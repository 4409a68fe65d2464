"""What one run of fine-tuning is asked to do."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

# As accelerate names them.
DTYPES = {"no": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True, slots=True)
class RunOptions:
    """One run.

    Attributes:
        data: folder that `training.prepare` has made.
        out: folder of all that comes out; a run that is there is resumed.
        model: folder of the model that training starts from.
        weights: folder of the losses' files.
        steps: of the optimiser, in all.
        batch: clips of a GPU at once.
        accumulate: batches of a step.
        precision: "no" (f32), "bf16" or "fp16".
        rate: learning rate, after `warmup` steps.
        average: decay of the averaged weights, which are then the result; 0: none.
        checkpoint_every, validate_every: steps; 0: at the end only.
        validation_clips, validation_frames: how many, and at most how long.
        recompute: compute inner activations twice rather than keep them.
    """

    data: Path
    out: Path
    model: Path
    weights: Path
    steps: int
    batch: int = 1
    accumulate: int = 1
    precision: str = "no"
    rate: float = 1e-5
    warmup: int = 0
    average: float = 0.0
    checkpoint_every: int = 1000
    validate_every: int = 1000
    validation_clips: int = 4
    validation_frames: int = 100
    recompute: bool = True
