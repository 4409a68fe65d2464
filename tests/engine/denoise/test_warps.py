"""The warp beside the latents is the last step's, whatever the window mode and the guidance."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from engine.backends.base import HopInput
from engine.backends.torch_backend import TorchBackend
from engine.denoise.model import TorchModel
from engine.media import F32
from engine.models.build import build_unet
from engine.spec import WARP_CHANNELS, ModelSpec
from tests.tiny_models import TINY_SPEC

HOP, SESSIONS, HOPS = 4, 2, 4
CHANNELS = TINY_SPEC.codec.latent_channels
POOLED = dataclasses.replace(TINY_SPEC.unet, per_frame_norm=False)
MODES: list[dict[str, Any]] = [
    {},
    {"timesteps": (799, 399), "prediction_type": "v_prediction", "guidance_scale": 2.0},
    {"carry": "carry", "refresh_hops": 2, "timesteps": (799, 399), "start": "warm"},
    {"carry": "pinned", "guidance_scale": 1.5, "guided_steps": (1,), "timesteps": (799, 399)},
    {"carry": "pinned", "guidance_scale": 1.5, "guided_steps": (0,), "timesteps": (799, 399)},
    {"carry": "disjoint", "guidance_scale": 2.0},
]


def warping(overrides: dict[str, Any]) -> ModelSpec:
    unet = TINY_SPEC.unet if overrides.get("carry", "causal") == "causal" else POOLED
    spec = dataclasses.replace(TINY_SPEC, unet=unet, **overrides)
    return dataclasses.replace(spec, unet=dataclasses.replace(spec.unet, source_warp=True))


def hops_of(backend: TorchBackend) -> list[list[HopInput]]:
    seeds = range(0, 2 * SESSIONS, 2)  # all even: the sessions refresh in the same hops
    states = [backend.new_session(hop_frames=HOP, seed=seed) for seed in seeds]
    random = np.random.default_rng(0)
    mel: F32 = random.standard_normal((HOPS, SESSIONS, HOP, 80, 32), np.float32)
    faces: F32 = random.standard_normal((2, HOPS, SESSIONS, HOP, CHANNELS, 4, 4), np.float32)
    return [
        [
            HopInput(state, mel[hop, place], faces[0, hop, place], faces[1, hop, place])
            for place, state in enumerate(states)
        ]
        for hop in range(HOPS)
    ]


@pytest.fixture
def model() -> TorchModel:
    return TorchModel.random(warping({}), torch.device("cpu"), "f32")


@pytest.mark.parametrize("overrides", MODES, ids=str)
def test_the_warp_is_what_the_last_step_gave_for_the_sound(
    overrides: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = warping(overrides)
    model = TorchModel.random(spec, torch.device("cpu"), "f32")
    given: list[Tensor] = []

    def noted(forward: Callable[..., tuple[Tensor, list[Tensor]]]) -> Callable[..., Any]:
        def call(*inputs: Any, **settings: Any) -> tuple[Tensor, list[Tensor]]:
            out, new = forward(*inputs, **settings)
            given.append(out)
            return out, new

        return call

    for name in ("forward_hop", "forward_window"):
        monkeypatch.setattr(model.unet, name, noted(getattr(model.unet, name)))
    backend = TorchBackend(model, spec, buckets=(SESSIONS,))
    for items in hops_of(backend):
        for place, hop in enumerate(backend.denoise(items)):
            assert hop.warps is not None and hop.warps.shape == (HOP, WARP_CHANNELS, 4, 4)
            out = given[-1][1::2] if spec.guided(len(spec.timesteps) - 1) else given[-1]
            want = out[place, CHANNELS:, -HOP:].transpose(0, 1)
            assert np.array_equal(hop.warps, want.numpy())


@pytest.mark.parametrize("overrides", MODES, ids=str)
def test_latents_are_those_of_a_model_without_the_warp(overrides: dict[str, Any]) -> None:
    spec = warping(overrides)
    model = TorchModel.random(spec, torch.device("cpu"), "f32")
    plain = dataclasses.replace(spec, unet=dataclasses.replace(spec.unet, source_warp=False))
    other = dataclasses.replace(model, unet=build_unet(plain).eval())
    weights = model.unet.state_dict()
    for name in ("conv_out.weight", "conv_out.bias"):
        weights[name] = weights[name][:CHANNELS]
    other.unet.load_state_dict(weights)
    backends = TorchBackend(model, spec), TorchBackend(other, plain)
    for items, others in zip(*(hops_of(backend) for backend in backends), strict=True):
        for got, want in zip(backends[0].denoise(items), backends[1].denoise(others), strict=True):
            assert want.warps is None
            np.testing.assert_allclose(got.latents, want.latents, atol=1e-5)


def test_a_hop_gives_pictures_and_the_warps_beside_them(model: TorchModel) -> None:
    spec = warping({})
    backend, twin = TorchBackend(model, spec), TorchBackend(model, spec)
    for items, again in zip(hops_of(backend), hops_of(twin), strict=True):
        for made, behind in zip(backend.run_hop(items), twin.denoise(again), strict=True):
            assert made.crops.shape == (HOP, 32, 32, 3)
            assert made.warps is not None and behind.warps is not None
            assert np.array_equal(made.warps, behind.warps)
            warp = made.warp(-1)
            assert warp is not None and warp.motion.shape == (4, 4, 2)


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def test_replayed_calls_give_the_warps_of_plain_calls(device: str) -> None:
    spec = warping({"carry": "carry", "refresh_hops": 2, "timesteps": (799, 399)})
    model = TorchModel.random(spec, torch.device(device), "f32")
    plain, replayed = (TorchBackend(model, spec, graphs=graphs) for graphs in (False, True))
    kept = []
    for items, again in zip(hops_of(plain), hops_of(replayed), strict=True):
        for made, same in zip(plain.run_hop(items), replayed.run_hop(again), strict=True):
            assert made.warps is not None and same.warps is not None
            kept.append((made.warps, same.warps))
    for own, other in kept:  # after the last call, so that none was written over
        assert np.array_equal(own, other)


def test_warps_are_f32_whatever_the_network_runs_in() -> None:
    for precision in ("f64", "bf16"):
        model = TorchModel.random(warping({}), torch.device("cpu"), precision)
        backend = TorchBackend(model, warping({}))
        (made, _) = backend.run_hop(hops_of(backend)[0])
        assert made.warps is not None and made.warps.dtype == np.float32
