"""How a model is run, where that is to differ from what its folder says."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from engine.errors import ConfigError
from engine.sampler import TRAIN_TIMESTEPS, trailing_timesteps
from engine.spec import CarryMode, ModelSpec, ReferenceMode, StartMode

# Warm starts begin below the top, where the frame before still shows through the noise.
WARM_TRAIN_TIMESTEPS = 800


@dataclass(frozen=True, slots=True)
class RunOptions:
    """Choices of whoever runs a model; None leaves one to the model.

    Attributes:
        window_mode: "disjoint", "pinned", "carry" or "causal".
        steps: denoising steps, spaced trailing from the top, or from 799 where they start warm.
        start: "noise" or "warm".
        refresh_hops: in the mode "carry", hops from one computed whole to the next; 0: never.
        reference: "frame" or "session".
        guidance_scale: 1.0 for none.
        precision: of the backend.
    """

    window_mode: CarryMode | None = None
    steps: int | None = None
    start: StartMode | None = None
    refresh_hops: int | None = None
    reference: ReferenceMode | None = None
    guidance_scale: float | None = None
    precision: str | None = None

    def applied(self, spec: ModelSpec) -> ModelSpec:
        """The spec with these choices.

        Raises:
            ConfigError: they do not go together.
        """
        changes: dict[str, Any] = {}
        if self.window_mode is not None and self.window_mode != spec.carry:
            changes["carry"] = self.window_mode
            if self.window_mode != "carry":
                changes["refresh_hops"] = 0
            if self.window_mode == "disjoint":
                changes["hop_frames"] = spec.window_frames
        if self.refresh_hops is not None:
            changes["refresh_hops"] = self.refresh_hops
        start = self.start or spec.start
        if start != spec.start or self.steps is not None:
            if self.steps is not None and self.steps < 1:
                raise ConfigError(f"expected at least one step, got {self.steps}")
            steps = self.steps or len(spec.timesteps)
            train = WARM_TRAIN_TIMESTEPS if start == "warm" else TRAIN_TIMESTEPS
            changes["start"] = start
            changes["timesteps"] = tuple(trailing_timesteps(steps, train=train))
            changes["guided_steps"] = None
        if self.reference is not None:
            changes["reference"] = self.reference
        if self.guidance_scale is not None:
            changes["guidance_scale"] = self.guidance_scale
        return dataclasses.replace(spec, **changes)
