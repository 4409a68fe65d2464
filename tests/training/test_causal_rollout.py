"""What training rolls out, held against what the engine streams."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from engine.backends.base import HopInput
from engine.backends.inputs import session_noise
from engine.backends.torch_backend import TorchBackend
from engine.denoise.model import TorchModel
from engine.models.build import build_unet
from engine.models.unet import UNet3DConditionModel
from engine.spec import ModelSpec
from tests.published_models import TINY_PUBLISHED
from tests.tiny_models import TINY_SPEC, randomize, write_random_model
from training.causal_rollout import Denoising, clip_forward, stream_forward, window_forward
from training.model_crops import ClipEncoder, SpokenClips

FRAMES, WINDOW = 24, 16  # the first hops have left the window at the end
BUNDLED = dataclasses.replace(
    TINY_SPEC,
    unet=dataclasses.replace(TINY_SPEC.unet, reference_gate=True, source_warp=True),
)
KINDS = pytest.mark.parametrize("spec", [BUNDLED, TINY_PUBLISHED], ids=["bundled", "published"])


def tiny_unet(spec: ModelSpec) -> UNet3DConditionModel:
    unet = build_unet(spec)
    randomize(unet, 3)
    return unet.double()


def clip_inputs(spec: ModelSpec, frames: int = FRAMES) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(5)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    size, unet = spec.latent_size, spec.unet
    sample = normal(2, unet.in_channels, frames, size, size)
    audio = normal(2, frames, unet.audio_tokens, unet.cross_attention_dim)
    return sample, torch.full((2,), 999.0, dtype=torch.float64), audio


@KINDS
@pytest.mark.parametrize("hop", [2, 8])
@torch.no_grad()
def test_a_stream_through_rings_gives_what_one_pass_over_the_clip_does(
    spec: ModelSpec, hop: int
) -> None:
    unet, inputs = tiny_unet(spec), clip_inputs(spec)
    whole = clip_forward(unet, hop, WINDOW)(*inputs)
    streamed = stream_forward(unet, hop, WINDOW)(*inputs)
    torch.testing.assert_close(streamed, whole, rtol=0, atol=1e-10)


def test_a_streams_past_has_no_gradients() -> None:
    unet, (sample, timestep, audio) = tiny_unet(TINY_PUBLISHED), clip_inputs(TINY_PUBLISHED)
    sample.requires_grad_()
    out = stream_forward(unet, 4, WINDOW, learn_from=16)(sample, timestep, audio)
    out.square().sum().backward()  # type: ignore[no-untyped-call]
    assert sample.grad is not None
    reached = sample.grad.abs().amax(dim=(0, 1, 3, 4)) > 0
    assert reached.tolist() == [False] * 16 + [True] * 8


def test_what_learns_is_not_hidden_by_a_past_in_half_precision() -> None:
    unet, (sample, timestep, audio) = tiny_unet(BUNDLED).float(), clip_inputs(BUNDLED)
    inputs = sample.float(), timestep.float(), audio.float()
    learning = []
    for forward in (clip_forward(unet, 4, WINDOW), stream_forward(unet, 4, WINDOW, learn_from=8)):
        unet.zero_grad()
        # Autocast keeps weights that it has cast, those that it cast without gradients as well.
        with torch.autocast("cpu", torch.bfloat16):
            out = forward(*inputs)
        out.float().square().sum().backward()  # type: ignore[no-untyped-call]
        learning.append({n for n, value in unet.named_parameters() if value.grad is not None})
    assert learning[0] == learning[1] == {name for name, _ in unet.named_parameters()}


@KINDS
@torch.no_grad()
def test_windows_of_a_clip_are_the_networks_own_where_there_is_but_one(spec: ModelSpec) -> None:
    unet, inputs = tiny_unet(spec), clip_inputs(spec, WINDOW)
    torch.testing.assert_close(window_forward(unet, WINDOW)(*inputs), unet(*inputs))


@torch.no_grad()
def test_windows_are_cross_faded_by_how_near_a_frame_is_to_their_middle() -> None:
    unet, (sample, timestep, audio) = tiny_unet(TINY_SPEC), clip_inputs(TINY_SPEC)
    both = window_forward(unet, WINDOW)(sample, timestep, audio)
    first = unet(sample[:, :, :16], timestep, audio[:, :16])
    second = unet(sample[:, :, 8:], timestep, audio[:, 8:])
    torch.testing.assert_close(both[:, :, :8], first[:, :, :8])
    mixed = (6 * first[:, :, 10] + 3 * second[:, :, 2]) / 9  # 6 from one's end, 3 from the other's
    torch.testing.assert_close(both[:, :, 10], mixed)


@KINDS
@torch.no_grad()
def test_a_rollout_is_what_a_session_streams(spec: ModelSpec, tmp_path: Path) -> None:
    spec = dataclasses.replace(write_random_model(tmp_path, spec, seed=2), carry="causal")
    model, hop = TorchModel.load(tmp_path, torch.device("cpu")), 4
    generator = torch.Generator().manual_seed(6)
    pictures = torch.randint(256, (FRAMES, 32, 32, 3), generator=generator, dtype=torch.uint8)
    seen = pictures.permute(0, 3, 1, 2)[None].float() / 127.5 - 1
    mel = torch.randn(1, FRAMES, spec.audio.n_mels, spec.audio.mel_frames, generator=generator)
    clip = ClipEncoder(spec, model.codec, model.audio_encoder)(SpokenClips(seen, seen, mel))
    denoising = Denoising(spec)
    noise = torch.from_numpy(session_noise(spec, 9, denoising.noises))[None]
    rolled = denoising.rollout(clip_forward(model.unet, hop, WINDOW), clip, noise)

    backend = TorchBackend(model, spec)
    crops = pictures.numpy()
    masked, reference = (backend.encode(crops, masked=flag) for flag in (True, False))
    session = backend.new_session(hop_frames=hop, seed=9)
    hops = [slice(first, first + hop) for first in range(0, FRAMES, hop)]
    streamed = [
        backend.denoise([HopInput(session, mel[0, at].numpy(), masked[at], reference[at])])[0]
        for at in hops
    ]
    assert len(rolled) == len(spec.timesteps)
    ours = rolled[-1].clean[0].numpy()
    theirs = np.concatenate([made.latents for made in streamed], axis=1)
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=2e-4)
    if spec.unet.source_warp:
        warps = np.concatenate([made.warps for made in streamed if made.warps is not None])
        ours = rolled[-1].warp[0].transpose(0, 1).numpy()
        np.testing.assert_allclose(ours, warps, rtol=0, atol=2e-4)
