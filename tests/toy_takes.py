"""Faces of four rectangles whose sound says how far their mouth is open, and what draws them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.quality.material import Speech, Take, lips_box
from engine.backends.base import GeneratedHop, HopInput, SessionState
from engine.backends.inputs import latents_shape
from engine.media import F32, FRAME_SAMPLES, U8
from engine.spec import ModelSpec
from tests.tiny_models import TINY_SPEC


def draw(opening: F32, size: int = TINY_SPEC.resolution) -> U8:
    """uint8 [n, size, size, 3]: skin, lips, and a dark slit as high as the mouth is open."""
    crops = np.full((len(opening), size, size, 3), (190, 150, 130), np.uint8)
    left, top, right, bottom = lips_box(TINY_SPEC.face, size)
    crops[:, top:bottom, left + 1 : right - 1] = (170, 90, 90)
    for crop, value in zip(crops, opening, strict=True):
        share = float(np.clip(value, 0.0, 1.0)) * (bottom - top - 2)
        whole = int(share)
        crop[top + 1 : top + 1 + whole, left + 1 : right - 1] = 20
        part = crop[top + 1 + whole, left + 1 : right - 1].astype(np.float32)
        crop[top + 1 + whole, left + 1 : right - 1] = part + (share - whole) * (20.0 - part)
    return crops


def toy_takes(frames: int = 201, spec: ModelSpec = TINY_SPEC) -> list[Take]:
    """Two takes; element [0, 0] of a frame's log-mel is the opening that its sound asks for."""
    dice = np.random.default_rng(0)
    openings = [_opening(frames, dice) for _ in range(2)]
    mels = [_mel(opening, spec) for opening in openings]
    takes = []
    for index, opening in enumerate(openings):
        learnt = _opening(150, dice)
        takes.append(
            Take(
                Speech(np.zeros(frames * FRAME_SAMPLES, np.float32), _mouth(opening)),
                source=draw(np.zeros(frames, np.float32)),
                truth=draw(opening),
                reader=draw(learnt),
                reader_mouth=_mouth(learnt),
                mel=mels[index],
                wrong_mel=mels[1 - index],
            )
        )
    return takes


def _opening(frames: int, dice: np.random.Generator) -> F32:
    rough = dice.uniform(-0.4, 1.1, frames + 4)
    smooth = np.convolve(rough, np.full(5, 0.2), "valid")
    return np.clip(smooth * 1.6 - 0.2, 0.0, 1.0).astype(np.float32)


def _mouth(opening: F32) -> F32:
    mouth = np.zeros((len(opening), 7), np.float32)
    mouth[:, 0] = opening
    return mouth


def _mel(opening: F32, spec: ModelSpec) -> F32:
    mel = np.zeros((len(opening), spec.audio.n_mels, spec.audio.mel_frames), np.float32)
    mel[:, 0, 0] = opening
    return mel


@dataclass(slots=True)
class ToySession:
    """Counts hops and frames."""

    hops: int = 0
    frames: int = 0

    def reset(self) -> None:
        self.hops = self.frames = 0


@dataclass(frozen=True, slots=True)
class ToyOpener:
    """Draws what the sound asks for, with faults of a known size.

    Attributes:
        jump: levels by which every other hop is brighter.
        fade: levels that the face darkens a frame.
    """

    spec: ModelSpec = TINY_SPEC
    jump: float = 0.0
    fade: float = 0.0

    def open(self, spec: ModelSpec) -> ToyRunner:
        return ToyRunner(self, spec)


class ToyRunner:
    """Gives pictures, and their brightness as latents."""

    name = "toy"

    def __init__(self, opener: ToyOpener, spec: ModelSpec) -> None:
        self.spec = spec
        self._opener = opener

    def encode(self, crops: U8, *, masked: bool) -> F32:
        return np.zeros((len(crops), *latents_shape(self.spec)), np.float32)

    def new_session(self, *, hop_frames: int, seed: int) -> SessionState:
        return ToySession()

    def run(self, batch: Sequence[HopInput]) -> tuple[list[GeneratedHop], list[F32]]:
        made = [self._draw(item) for item in batch]
        shape = latents_shape(self.spec)
        latents = [
            np.broadcast_to(
                crops.mean(axis=(1, 2, 3), dtype=np.float32)[:, None, None, None],
                (len(crops), *shape),
            )
            for crops in made
        ]
        return [GeneratedHop(crops) for crops in made], latents

    def _draw(self, item: HopInput) -> U8:
        session = item.state
        assert isinstance(session, ToySession)
        crops = draw(item.mel[:, 0, 0]).astype(np.float32)
        age = session.frames + np.arange(len(crops), dtype=np.float32)[:, None, None, None]
        crops += self._opener.jump * (session.hops % 2) - self._opener.fade * age
        session.hops += 1
        session.frames += len(crops)
        return np.clip(np.round(crops), 0, 255).astype(np.uint8)
