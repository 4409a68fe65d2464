"""The seam between the engine and whatever runs the network.

A backend owns weights (immutable, shared) and, per session, one opaque state
that it alone reads: rings of carried keys and values, the session's fixed
noise. Everything that crosses the seam is numpy.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from engine.face.warp import SourceWarp
from engine.media import F32, U8
from engine.spec import ModelSpec


class SessionState(Protocol):
    """A backend's memory of one session."""

    def reset(self) -> None:
        """Forgets the carried context (after an interrupt, a cut or a dropped hop)."""


@dataclass(frozen=True, slots=True)
class HopInput:
    """What one session gives to one hop of h new frames.

    Attributes:
        state: the session's state, from `Backend.new_session` of the same backend.
        mel: float32 [h, n_mels, mel_frames], the log-mel window of each frame.
        masked_latents: float32 [h, C, s, s], codec latents of the crops with
            the generated part greyed out (`Backend.encode(crops, masked=True)`).
        ref_latents: float32 [h, C, s, s], of the same crops whole (`masked=False`): the
            face's own look, whatever its mouth does. LatentSync's same-frame reference.
    """

    state: SessionState
    mel: F32
    masked_latents: F32
    ref_latents: F32


@dataclass(frozen=True, slots=True)
class GeneratedHop:
    """What the network makes of one session's hop of h frames.

    Attributes:
        crops: uint8 RGB [h, R, R, 3], decoded; rows that the paste mask does not show may be grey.
        warps: float32 [h, WARP_CHANNELS, s, s], as `engine.face.warp` reads them; None where the
            model has no `source_warp`.
    """

    crops: U8
    warps: F32 | None = None

    def warp(self, frame: int) -> SourceWarp | None:
        """How the source of one of the frames moves below its crop."""
        return None if self.warps is None else SourceWarp.of(self.warps[frame])


class Backend(Protocol):
    """Runs a model. Not thread-safe: one caller at a time."""

    name: str
    spec: ModelSpec
    max_batch: int
    """Hops of a call that are worth waiting for each other: 1 where they run one by one."""

    def encode(self, crops: U8, *, masked: bool) -> F32:
        """Codec latents of face crops.

        Args:
            crops: uint8 RGB [n, R, R, 3].
            masked: grey out the generated part first.

        Returns:
            float32 [n, C, s, s], scaled as the U-Net reads them.
        """

    def new_session(self, *, hop_frames: int, seed: int) -> SessionState:
        """Fresh state for one session.

        Args:
            hop_frames: new frames a call, fixed for the session's life.
            seed: of the session's fixed noise.
        """

    def warm_up(self, hop_frames: int) -> None:
        """Makes every call ready that hops of this length need, so that no session waits for it."""

    def run_hop(self, batch: Sequence[HopInput]) -> list[GeneratedHop]:
        """The generated faces for each input.

        All inputs share one hop length. Carried context of each state is advanced.
        """
