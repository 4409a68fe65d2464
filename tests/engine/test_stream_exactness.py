"""Streaming a block-causal model gives what one pass over the whole clip gives.

The stream's own parts are all in it: chopped sound, feature stream, windows, prepared avatar,
rings. The reference uses none of them: log-mel of the whole recording, one encoder call, one
pass of the network over all frames.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.audio.log_mel import log_mel_frames
from engine.avatar import Avatar, AvatarSource, PreparedAvatar, loop_index, prepare_avatar
from engine.backends.base import GeneratedHop, HopInput
from engine.backends.inputs import session_noise
from engine.backends.torch_backend import TorchBackend
from engine.denoise.model import TorchModel
from engine.face.mask import mask_latents
from engine.media import F32, Picture
from engine.sampler import Sampler
from engine.scheduler import Scheduler
from engine.spec import ModelSpec
from engine.stream import Stream, StreamOptions
from tests.fakes import speech
from tests.tiny_models import make_tiny_model

FRAMES = 21
SEED = 7
CPU = torch.device("cpu")
HOPS = (1, 2, 4, 8)


class RecordingBackend(TorchBackend):
    """Keeps the clean latents [C, h, s, s] of every hop of its only session."""

    recorded: list[F32]

    def run_hop(self, batch: Sequence[HopInput]) -> list[GeneratedHop]:
        latents = self.denoise(batch)[0].latents
        self.recorded.append(latents)
        crop = (self.spec.resolution, self.spec.resolution, 3)
        return [GeneratedHop(np.zeros((latents.shape[1], *crop), np.uint8))]


def _avatar() -> Avatar:
    random = np.random.default_rng(1)
    points = np.array([[30, 18], [66, 18], [48, 38]], np.float32)
    count = 10
    return Avatar(
        name="noise",
        title="Noise",
        licence="CC0",
        loop="pingpong",
        pictures=tuple(
            Picture(random.integers(16, 235, (120 * 3 // 2, 96), np.uint8)) for _ in range(count)
        ),
        points=points[None] + random.normal(0, 1, (count, 3, 2)).astype(np.float32),
        reference_frame=3,
    )


@dataclass(frozen=True)
class Given:
    """A model, an avatar prepared for it, speech, and what one pass gives at each hop."""

    backend: RecordingBackend = field(repr=False)
    avatar: PreparedAvatar = field(repr=False)
    samples: F32 = field(repr=False)
    whole: dict[int, F32] = field(repr=False)


@pytest.fixture(scope="module", params=[(999,), (999, 499)], ids=["one step", "two steps"])
def given_model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Given:
    folder = tmp_path_factory.mktemp("model")
    make_tiny_model(folder, timesteps=request.param)
    backend = RecordingBackend(TorchModel.load(folder, CPU, "f32"), ModelSpec.read(folder))
    avatar = prepare_avatar(_avatar(), backend)
    samples = speech(FRAMES)[:-200]
    whole = {hop: _whole_clip(backend, avatar, hop, samples) for hop in HOPS}
    return Given(backend, avatar, samples, whole)


def _streamed(
    backend: RecordingBackend, avatar: PreparedAvatar, hop: int, pieces: Sequence[F32]
) -> F32:
    backend.recorded = []
    options = StreamOptions(hop_frames=hop, realtime=False, seed=SEED)
    stream = Stream(backend, AvatarSource(avatar), options)
    scheduler = Scheduler(backend)
    scheduler.add(stream)
    frames = 0
    for piece in pieces:
        stream.push_audio(piece)
        frames += sum(len(output.frames) for output in scheduler.run_due())
    stream.flush()
    while outputs := scheduler.run_due():
        frames += sum(len(output.frames) for output in outputs)
    assert frames == FRAMES
    return np.concatenate(backend.recorded, axis=1)[:, :FRAMES]


@torch.inference_mode()
def _whole_clip(
    backend: RecordingBackend, avatar: PreparedAvatar, hop: int, samples: F32, window: int = 16
) -> F32:
    """[C, FRAMES, s, s] of one pass a timestep over all frames, padded to whole hops."""
    spec = backend.spec
    audio_spec = spec.audio
    count = -(-FRAMES // hop) * hop
    # Log-mel frame m is centred at sample 160 m; frame i reads [4 i + 12 - 2 P, 4 i + 12).
    before = 160 * (audio_spec.mel_frames - 12) + 200
    after = 640 * count + 1320 - len(samples)
    padded = np.pad(samples, (before, after))
    mel = log_mel_frames(padded, audio_spec)
    windows = [mel[:, 4 * i : 4 * i + audio_spec.mel_frames] for i in range(count)]
    audio = backend.model.audio_encoder(torch.from_numpy(np.stack(windows)))[None]
    order = [loop_index(i, len(avatar.avatar.pictures), "pingpong") for i in range(count)]
    masked = torch.from_numpy(avatar.masked_latents[order]).transpose(0, 1)[None]
    reference = torch.from_numpy(avatar.ref_latents[order]).transpose(0, 1)[None]
    noise = torch.from_numpy(session_noise(spec, SEED))[:, :, None].expand_as(masked)
    mask = torch.from_numpy(mask_latents(spec)).expand_as(masked[:, :1])
    sampler = Sampler(spec)
    latents = noise
    for index, timestep in enumerate(spec.timesteps):
        sample = torch.cat([latents, mask, masked, reference], dim=1)
        prediction = backend.model.unet.forward_clip(
            sample, torch.tensor([float(timestep)]), audio, hop, window
        )
        latents = sampler.step(index, latents, prediction)
    whole: F32 = latents[0, :, :FRAMES].numpy()
    return whole


@pytest.mark.parametrize("hop", HOPS)
def test_stream_equals_one_pass_over_the_whole_clip(given_model: Given, hop: int) -> None:
    backend, avatar = given_model.backend, given_model.avatar
    whole = given_model.whole[hop]
    streamed = _streamed(backend, avatar, hop, [given_model.samples])
    assert np.abs(streamed - whole).max() < 1e-4
    # The carried context matters: without it the network gives something else.
    without = _whole_clip(backend, avatar, hop, given_model.samples, window=hop)
    assert np.abs(without - whole)[:, hop:].max() > 1e-2


@pytest.mark.parametrize("hop", HOPS)
@settings(max_examples=3, deadline=None, derandomize=True)
@given(cuts=st.lists(st.integers(0, FRAMES * 640 - 200), max_size=40))
def test_any_chopping_of_the_sound_gives_the_same(
    given_model: Given, hop: int, cuts: list[int]
) -> None:
    pieces = np.split(given_model.samples, sorted(cuts))
    streamed = _streamed(given_model.backend, given_model.avatar, hop, pieces)
    assert np.abs(streamed - given_model.whole[hop]).max() < 1e-4
