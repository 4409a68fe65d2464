"""Captured calls read fixed buffers; here the discipline, on a GPU the capture itself."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from engine.backends.base import HopInput
from engine.backends.torch_backend import TorchBackend
from engine.denoise.model import TorchModel
from engine.denoise.programs import StaticProgram
from engine.media import F32, U8
from engine.spec import ModelSpec
from tests.tiny_models import TINY_SPEC

POOLED = dataclasses.replace(TINY_SPEC.unet, per_frame_norm=False)
SPEC = dataclasses.replace(
    TINY_SPEC, unet=POOLED, carry="carry", refresh_hops=3, start="warm", timesteps=(799, 399)
)


def hop_items(spec: ModelSpec, backend: TorchBackend, sessions: int) -> list[list[HopInput]]:
    """Six hops of so many sessions; session s is given the same whatever others there are."""
    states = [backend.new_session(hop_frames=4, seed=seed) for seed in range(sessions)]
    hops = []
    for hop in range(6):
        items = []
        for seed, state in enumerate(states):
            random = np.random.default_rng([seed, hop])
            mel: F32 = random.standard_normal((4, 80, spec.audio.mel_frames), np.float32)
            face: F32 = random.standard_normal((2, 4, 4, 4, 4), np.float32)
            items.append(HopInput(state, mel, face[0], face[1]))
        hops.append(items)
    return hops


def run(backend: TorchBackend, sessions: int) -> list[list[U8]]:
    return [
        [hop.crops for hop in backend.run_hop(items)]
        for items in hop_items(backend.spec, backend, sessions)
    ]


def test_a_program_with_a_graph_reads_its_own_buffers_only() -> None:
    seen: list[int] = []

    def function(values: Tensor) -> tuple[Tensor, ...]:
        seen.append(values.data_ptr())
        return (values * 2,)

    program = StaticProgram(function, [torch.ones(3)], graph=True)
    for value in (1.0, 5.0):
        given = torch.full((3,), value)
        (out,) = program(given)
        assert out.tolist() == [2 * value] * 3
        assert given.data_ptr() not in seen
    assert len(set(seen)) == 1


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def test_replayed_calls_give_what_plain_calls_give(device: str) -> None:
    model = TorchModel.random(SPEC, torch.device(device), "f32")
    plain = run(TorchBackend(model, SPEC, buckets=(1, 2, 4), graphs=False), 3)
    replayed = run(TorchBackend(model, SPEC, buckets=(1, 2, 4), graphs=True), 3)
    for hop, again in zip(plain, replayed, strict=True):
        for crops, same in zip(hop, again, strict=True):
            assert np.array_equal(crops, same)


@pytest.mark.parametrize("precision", ["f32", "bf16"])
def test_a_session_is_bit_equal_alone_and_among_others_at_a_fixed_bucket(precision: str) -> None:
    model = TorchModel.random(SPEC, torch.device("cpu"), precision)
    alone = run(TorchBackend(model, SPEC, buckets=(4,)), 1)
    among = run(TorchBackend(model, SPEC, buckets=(4,)), 4)
    for hop, others in zip(alone, among, strict=True):
        assert np.array_equal(hop[0], others[0])


def test_sessions_that_join_and_leave_do_not_touch_others() -> None:
    model = TorchModel.random(SPEC, torch.device("cpu"), "f32")
    calm = TorchBackend(model, SPEC, buckets=(4,))
    want = [calm.run_hop([items[0]])[0].crops for items in hop_items(SPEC, calm, 1)]
    busy = TorchBackend(model, SPEC, buckets=(4,))
    own = hop_items(SPEC, busy, 1)
    got = []
    for hop, items in enumerate(own):
        # Others take a slot, run for two hops among this one, and are gone: so do many.
        guests = hop_items(SPEC, busy, 1 + hop)
        got.append(busy.run_hop([*[guest for guest in guests[0]][:2], items[0]])[-1].crops)
        busy.run_hop(guests[1][:3])
    for before, after in zip(want, got, strict=True):
        assert np.array_equal(before, after)


def test_a_session_that_is_no_longer_held_gives_its_slot_back() -> None:
    backend = TorchBackend(TorchModel.random(SPEC, torch.device("cpu"), "f32"), SPEC)
    slots = set()
    for seed in range(20):
        session = backend.new_session(hop_frames=4, seed=seed)
        slots.add(session.slot)
        del session
    assert len(slots) == 1


def test_a_batch_beyond_the_largest_bucket_is_run_in_several() -> None:
    model = TorchModel.random(SPEC, torch.device("cpu"), "f32")
    small = run(TorchBackend(model, SPEC, buckets=(1, 2)), 5)
    large = run(TorchBackend(model, SPEC, buckets=(8,)), 5)
    for hop, others in zip(small, large, strict=True):
        for crops, same in zip(hop, others, strict=True):
            assert np.abs(crops.astype(int) - same.astype(int)).max() <= 1


@pytest.mark.parametrize(
    "overrides",
    [
        {},
        {"start": "noise", "refresh_hops": 0},
        {"carry": "pinned", "refresh_hops": 0},
        {"carry": "disjoint", "refresh_hops": 0},
    ],
)
def test_a_warmed_backend_makes_no_program_while_it_serves(overrides: dict[str, Any]) -> None:
    spec = dataclasses.replace(SPEC, **overrides)
    model = TorchModel.random(spec, torch.device("cpu"), "f32")
    warmed = TorchBackend(model, spec, buckets=(1, 2, 4), graphs=True)
    warmed.warm_up(4)
    made = {hop: set(length.programs) for hop, length in warmed._lengths.items()}
    encoders = set(warmed._encoders)
    cold = TorchBackend(model, spec, buckets=(1, 2, 4), graphs=True)
    for backend in (warmed, cold):
        for sessions in (1, 2, 3):
            run(backend, sessions)
        backend.encode(np.zeros((3, 32, 32, 3), np.uint8), masked=True)
    assert {hop: set(length.programs) for hop, length in warmed._lengths.items()} == made
    assert set(warmed._encoders) == encoders
    assert set(cold._lengths[4].programs) <= made[4]
