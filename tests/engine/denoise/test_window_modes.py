"""Every window mode in fp64 against a plain loop over whole windows, which carries nothing."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from engine.backends.base import HopInput
from engine.backends.inputs import session_noise
from engine.backends.torch_backend import TorchBackend, TorchSession
from engine.denoise.model import TorchModel
from engine.denoise.window_modes import COLD_TIMESTEP
from engine.face.mask import mask_latents
from engine.media import F32
from engine.sampler import Sampler, add_noise, alphas_cumprod, guide, predict_x0
from engine.spec import ModelSpec
from tests.tiny_models import TINY_SPEC

SEED = 3
WINDOW = 16
FRAMES = 40  # rings of every hop wrap around
EXACT = 1e-9
CPU = torch.device("cpu")

# The published network's kind at small size: pooled norms, temporal modules on both sides.
FULL = dataclasses.replace(
    TINY_SPEC.unet,
    per_frame_norm=False,
    motion_decoder_only=False,
    time_scale_shift=False,
    audio_film=False,
)
DECODER_ONLY = dataclasses.replace(FULL, motion_decoder_only=True)
PER_FRAME = dataclasses.replace(TINY_SPEC.unet, motion_decoder_only=False)
BASE = dataclasses.replace(
    TINY_SPEC, unet=FULL, prediction_type="epsilon", timesteps=(799, 399), carry="carry"
)


@dataclasses.dataclass(frozen=True)
class Material:
    """What a session is given, frame by frame, in fp64 and as the backend takes it."""

    model: TorchModel
    mel: F32
    masked: F32
    reference: F32
    tokens: Tensor

    def items(self, session: TorchSession, hop: int) -> Iterator[HopInput]:
        for start in range(0, len(self.mel), hop):
            own = slice(start, start + hop)
            yield HopInput(session, self.mel[own], self.masked[own], self.reference[own])


def material(spec: ModelSpec, seed: int = 0) -> Material:
    model = TorchModel.random(spec, CPU, "f64")
    random = np.random.default_rng(seed)
    face = (FRAMES, spec.codec.latent_channels, spec.latent_size, spec.latent_size)
    mel = random.standard_normal((FRAMES, spec.audio.n_mels, spec.audio.mel_frames), np.float32)
    with torch.no_grad():
        tokens = model.audio_encoder(torch.from_numpy(mel).double())
    masked, reference = (random.standard_normal(face, np.float32) for _ in range(2))
    return Material(model, mel, masked, reference, tokens)


def streamed(spec: ModelSpec, given: Material, hop: int) -> Tensor:
    """[C, F, s, s] what the backend makes of it, hop by hop."""
    backend = TorchBackend(given.model, spec)
    session = backend.new_session(hop_frames=hop, seed=SEED)
    made = [backend.denoise([item])[0].latents for item in given.items(session, hop)]
    return torch.from_numpy(np.concatenate(made, axis=1))


class Reference:
    """Whole windows and plain lists: nothing is carried but what was shown."""

    def __init__(self, spec: ModelSpec, given: Material) -> None:
        self.spec, self.given = spec, given
        self.sampler = Sampler(spec)
        noise = session_noise(spec, SEED, self.sampler.noises)
        self.noise = torch.from_numpy(noise).double()[:, None, :, None]  # [n, 1, C, 1, s, s]
        self.mask = torch.from_numpy(mask_latents(spec)).double()

    def noise_of(self, step: int) -> Tensor:
        return self.noise[min(step, len(self.noise) - 1)]

    def inputs(self, latents: Tensor, frames: range) -> Tensor:
        """[1, in, f, s, s] of latents [1, C, f, s, s] and the faces of `frames`."""
        faces = [
            torch.from_numpy(face[frames.start : frames.stop]).double().transpose(0, 1)[None]
            for face in (self.given.masked, self.given.reference)
        ]
        return torch.cat([latents, self.mask.expand_as(latents[:, :1]), *faces], dim=1)

    def predict(self, call: Any, latents: Tensor, frames: range, step: int, time: float) -> Tensor:
        """A prediction by `call(sample, timestep, tokens)`, guided where the step is."""
        sample = self.inputs(latents, frames)
        tokens = self.given.tokens[frames.start : frames.stop][None]
        timestep = torch.tensor([time], dtype=torch.float64)
        spoken: Tensor = call(sample, timestep, tokens)
        if not self.spec.guided(step):
            return spoken
        silent: Tensor = call(sample, timestep, torch.zeros_like(tokens))
        return guide(silent, spoken, 1.5)

    def first(self, new: range, shown: Tensor | None) -> Tensor:
        """What the first step of the hop `new` starts from."""
        unet = self.given.model.unet
        noise = self.noise_of(0).expand(-1, -1, len(new), -1, -1)
        if self.spec.start == "noise":
            return noise
        if shown is None:
            alpha = float(alphas_cumprod()[COLD_TIMESTEP])
            prediction = self.predict(unet, noise, new, 0, float(COLD_TIMESTEP))
            before = predict_x0(noise, prediction, alpha, self.spec.prediction_type)
        else:
            before = shown[:, :, -1:].expand_as(noise)
        return add_noise(before, noise, self.sampler.alphas[0])

    @torch.no_grad()
    def block_causal(self, hop: int) -> Tensor:
        """Whole clips under a block-causal mask.

        Where a hop starts from the frames before it, the clip so far is computed for every hop;
        otherwise all frames are in one pass a step.
        """
        unet, count = self.given.model.unet, len(self.given.mel)
        block = hop if self.spec.start == "warm" else count
        held: list[list[Tensor]] = [[] for _ in self.spec.timesteps]  # noisy, by step, by block
        shown: list[Tensor] = []
        for start in range(0, count, block):
            before = torch.cat(shown, dim=2) if shown else None
            latents = self.first(range(start, start + block), before)
            for step, time in enumerate(self.spec.timesteps):
                held[step].append(latents)
                prediction = self.predict(
                    partial(unet.forward_clip, hop=hop, window=WINDOW),
                    torch.cat(held[step], dim=2),
                    range(start + block),
                    step,
                    float(time),
                )[:, :, start:]
                latents = self.sampler.step(step, latents, prediction, self.noise_of(step + 1))
            shown.append(latents)
        return torch.cat(shown, dim=2)[0]

    @torch.no_grad()
    def pinned(self, hop: int) -> Tensor:
        """A whole window for every hop; frames before the stream are noise that none may see."""
        unet, context = self.given.model.unet, WINDOW - hop
        shown: Tensor | None = None
        for start in range(0, FRAMES, hop):
            latents = self.first(range(start, start + hop), shown)
            have = min(context, start)
            frames = range(start - have, start + hop)
            hidden = context - have
            for step, time in enumerate(self.spec.timesteps):
                noisy = latents
                if shown is not None and have:
                    alpha = self.sampler.alphas[step]
                    pinned = add_noise(shown[:, :, -have:], self.noise_of(step), alpha)
                    noisy = torch.cat([pinned, latents], dim=2)
                prediction = self.predict(
                    partial(_padded_window, unet, hidden),
                    noisy,
                    frames,
                    step,
                    float(time),
                )[:, :, have:]
                latents = self.sampler.step(step, latents, prediction, self.noise_of(step + 1))
            shown = latents if shown is None else torch.cat([shown, latents], dim=2)
        assert shown is not None
        return shown[0]

    @torch.no_grad()
    def disjoint(self, hop: int) -> Tensor:
        """Windows of `hop` frames that share nothing but the noise."""
        unet = self.given.model.unet
        shown: Tensor | None = None
        for start in range(0, FRAMES, hop):
            new = range(start, start + hop)
            latents = self.first(new, shown)
            for step, time in enumerate(self.spec.timesteps):
                prediction = self.predict(unet, latents, new, step, float(time))
                latents = self.sampler.step(step, latents, prediction, self.noise_of(step + 1))
            shown = latents if shown is None else torch.cat([shown, latents], dim=2)
        assert shown is not None
        return shown[0]


def _padded_window(
    unet: Any, hidden: int, sample: Tensor, timestep: Tensor, tokens: Tensor
) -> Tensor:
    """A window whose first `hidden` places hold garbage that is hidden."""
    if not hidden:
        whole: Tensor = unet(sample, timestep, tokens)
        return whole
    garbage = torch.randn(1, sample.shape[1], hidden, *sample.shape[3:], dtype=torch.float64)
    present = torch.cat([torch.zeros(1, hidden), torch.ones(1, sample.shape[2])], dim=1).double()
    silent = torch.randn(1, hidden, *tokens.shape[2:], dtype=torch.float64)
    out, _ = unet.forward_window(
        torch.cat([garbage, sample], dim=2),
        timestep,
        torch.cat([silent, tokens], dim=1),
        present,
        keep=False,
    )
    result: Tensor = out[:, :, hidden:]
    return result


VARIANTS: dict[str, dict[str, Any]] = {
    "full": {},
    "decoder only": {"unet": DECODER_ONLY},
    "per-frame norms": {"unet": PER_FRAME, "carry": "causal"},
    "guided": {"guidance_scale": 1.5},
    "one step guided": {"guidance_scale": 1.5, "guided_steps": (0,)},
    "warm": {"start": "warm"},
    "warm and guided": {"start": "warm", "guidance_scale": 1.5},
    "renoised": {"solver": "renoise"},
    "clean prediction": {"prediction_type": "sample"},
}


# The variants that carry differently, at every hop; the others once.
CASES = [(name, hop) for name in ("full", "decoder only", "guided") for hop in (1, 2, 4, 8)]
CASES += [(name, 4) for name in VARIANTS if name not in ("full", "decoder only", "guided")]


@pytest.mark.parametrize(("variant", "hop"), CASES)
def test_carried_context_equals_whole_clips_under_a_block_causal_mask(
    variant: str, hop: int
) -> None:
    spec = dataclasses.replace(BASE, **VARIANTS[variant])
    given = material(spec)
    whole = Reference(spec, given).block_causal(hop)
    assert (streamed(spec, given, hop) - whole).abs().max() < EXACT


@pytest.mark.parametrize(
    ("variant", "hop"), [case for case in CASES if case[0] != "per-frame norms" and case[1] > 1]
)
def test_pinned_windows_equal_a_loop_over_windows(variant: str, hop: int) -> None:
    spec = dataclasses.replace(BASE, **VARIANTS[variant], carry="pinned")
    given = material(spec)
    assert (streamed(spec, given, hop) - Reference(spec, given).pinned(hop)).abs().max() < EXACT


@pytest.mark.parametrize("variant", ["full", "guided", "warm"])
def test_disjoint_windows_equal_windows_of_their_own(variant: str) -> None:
    spec = dataclasses.replace(BASE, **VARIANTS[variant], carry="disjoint")
    given = material(spec)
    assert (streamed(spec, given, 8) - Reference(spec, given).disjoint(8)).abs().max() < EXACT


@pytest.mark.parametrize("hop", [3, 5, 10])
def test_hops_that_do_not_divide_the_window_are_exact_too(hop: int) -> None:
    given = material(BASE)
    whole_hops = FRAMES // hop * hop
    cut = dataclasses.replace(
        given,
        mel=given.mel[:whole_hops],
        masked=given.masked[:whole_hops],
        reference=given.reference[:whole_hops],
    )
    whole = Reference(BASE, cut).block_causal(hop)
    assert (streamed(BASE, cut, hop) - whole).abs().max() < EXACT


@pytest.mark.parametrize("guidance", [1.0, 1.5])
def test_a_refresh_of_every_hop_is_the_pinned_mode(guidance: float) -> None:
    carry = dataclasses.replace(BASE, refresh_hops=1, guidance_scale=guidance)
    pinned = dataclasses.replace(BASE, carry="pinned", guidance_scale=guidance)
    given = material(BASE)
    assert (streamed(carry, given, 4) - streamed(pinned, given, 4)).abs().max() < EXACT


def test_a_refresh_fills_the_rings_with_what_the_window_computes() -> None:
    hop, context = 4, 12
    spec = dataclasses.replace(BASE, refresh_hops=3, timesteps=(799,))
    given = material(spec)
    backend = TorchBackend(given.model, spec)
    session = backend.new_session(hop_frames=hop, seed=0)
    made = [backend.denoise([item])[0].latents for item in list(given.items(session, hop))[:4]]
    assert session.hops == 4  # hops 0 .. 3, of which 3 refreshed
    pool = backend._length(hop).pool
    before = torch.from_numpy(np.concatenate(made[:3], axis=1))[None]
    reference = Reference(spec, given)
    noise = torch.from_numpy(session_noise(spec, 0)).double()[:, :, None]
    pinned = add_noise(before, noise, reference.sampler.alphas[0])
    window = torch.cat([pinned, noise.expand(-1, -1, hop, -1, -1)], dim=2)
    with torch.no_grad():
        _, kept = given.model.unet.forward_window(
            reference.inputs(window, range(16)),
            torch.tensor([799.0], dtype=torch.float64),
            given.tokens[:16][None],
            None,
            keep=True,
        )
    assert session.carried % context == 4  # the newest frame lies in ring slot 3
    order = [(session.carried + place) % context for place in range(context)]
    for ring, want in zip(pool.rings[0], kept, strict=True):
        held = ring[session.slot, 0][:, order]
        assert (held - want[0, :, -context:]).abs().max() < EXACT


def test_refreshes_bound_what_carrying_changes() -> None:
    given = material(BASE)
    pinned = streamed(dataclasses.replace(BASE, carry="pinned"), given, 4)
    distances = []
    for refresh in (0, 4, 1):
        spec = dataclasses.replace(BASE, refresh_hops=refresh)
        distances.append(float((streamed(spec, given, 4) - pinned).abs().mean()))
    assert distances[0] > distances[1] > distances[2]
    assert distances[2] < EXACT


@pytest.mark.parametrize("variant", ["full", "decoder only"])
def test_dropping_the_norm_moments_breaks_the_carry(variant: str) -> None:
    spec = dataclasses.replace(BASE, **VARIANTS[variant])
    given = material(spec)
    whole = Reference(spec, given).block_causal(4)
    backend = TorchBackend(given.model, spec)
    session = backend.new_session(hop_frames=4, seed=SEED)
    pool = backend._length(4).pool
    norms = len(given.model.unet.moment_shapes())
    made = []
    for item in given.items(session, 4):
        made.append(backend.denoise([item])[0].latents)
        for rings in pool.rings:
            for moments in rings[-norms:]:
                moments.zero_()
    lossy = torch.from_numpy(np.concatenate(made, axis=1))
    assert (lossy - whole)[:, :4].abs().max() < EXACT
    assert (lossy - whole)[:, 4:].abs().max() > 1e-2


def test_a_reset_session_starts_as_a_new_one() -> None:
    for overrides in ({}, {"carry": "pinned"}, {"refresh_hops": 2}, {"start": "warm"}):
        spec = dataclasses.replace(BASE, **overrides)
        given = material(spec)
        backend = TorchBackend(given.model, spec)
        session = backend.new_session(hop_frames=4, seed=SEED)
        items = list(given.items(session, 4))
        first = [backend.denoise([item])[0].latents for item in items]
        session.reset()
        again = [backend.denoise([item])[0].latents for item in items]
        assert np.array_equal(first, again)
