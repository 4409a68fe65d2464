"""Streams that share a batch do not touch each other: bit-equal pictures at a fixed bucket."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from engine.avatar import Avatar, AvatarSource, PreparedAvatar, prepare_avatar
from engine.backends.torch_backend import TorchBackend
from engine.denoise.model import TorchModel
from engine.media import FRAME_SAMPLES, Picture
from engine.scheduler import Scheduler
from engine.spec import ModelSpec
from engine.stream import Stream, StreamOptions
from tests.fakes import speech
from tests.tiny_models import TINY_SPEC

FRAMES = 40
STEP_SAMPLES = 2 * FRAME_SAMPLES
CAUSAL = TINY_SPEC
CARRY = dataclasses.replace(
    TINY_SPEC,
    unet=dataclasses.replace(TINY_SPEC.unet, per_frame_norm=False),
    carry="carry",
    refresh_hops=3,
    start="warm",
    timesteps=(799, 399),
)
PINNED = dataclasses.replace(CARRY, carry="pinned", refresh_hops=0)


def _prepared(backend: TorchBackend) -> PreparedAvatar:
    random = np.random.default_rng(1)
    pictures = tuple(
        Picture(random.integers(16, 235, (120 * 3 // 2, 96), np.uint8)) for _ in range(6)
    )
    points = np.array([[30, 18], [66, 18], [48, 38]], np.float32)
    return prepare_avatar(
        Avatar("noise", "Noise", "CC0", "wrap", pictures, points[None].repeat(6, axis=0), 0),
        backend,
    )


def _frames(model: TorchModel, spec: ModelSpec, *, guests: int) -> list[Picture]:
    """What a stream shows while guests join, speak for a while, and leave at odd moments."""
    backend = TorchBackend(model, spec, buckets=(4,))
    avatar = _prepared(backend)
    scheduler = Scheduler(backend)

    def join(seed: int) -> Stream:
        options = StreamOptions(hop_frames=4, realtime=False, seed=seed)
        stream = Stream(backend, AvatarSource(avatar), options)
        scheduler.add(stream)
        return stream

    own = join(5)
    sound = speech(FRAMES, seed=9)
    here: list[Stream] = []
    shown: list[Picture] = []
    for turn, start in enumerate(range(0, len(sound), STEP_SAMPLES)):
        if guests and turn % 3 == 0:
            here.append(join(turn))
        if len(here) > guests:
            scheduler.remove(here.pop(turn % len(here)))
        own.push_audio(sound[start : start + STEP_SAMPLES])
        for guest in here:
            guest.push_audio(speech(2, seed=start))
        while outputs := scheduler.run_due():
            for output in outputs:
                assert output.error is None
                if output.stream is own:
                    shown += [frame.picture for frame in output.frames]
    return shown


@pytest.mark.parametrize("spec", [CAUSAL, CARRY, PINNED], ids=["causal", "carry", "pinned"])
def test_a_stream_shows_the_same_alone_and_among_others_that_come_and_go(spec: ModelSpec) -> None:
    model = TorchModel.random(spec, torch.device("cpu"), "f32")
    alone = _frames(model, spec, guests=0)
    among = _frames(model, spec, guests=3)
    assert len(alone) == len(among) == FRAMES - 4  # the look-ahead of the last hop is missing
    for picture, same in zip(alone, among, strict=True):
        assert np.array_equal(picture.i420, same.i420)
    assert any(not np.array_equal(alone[0].i420, picture.i420) for picture in alone[1:])
