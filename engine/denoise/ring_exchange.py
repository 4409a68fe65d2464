"""A session's rings in the pool, as the plain arrays that every causal backend carries."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from engine.carry import HopRings
from engine.denoise.pool import SessionPool, places_of
from engine.errors import StreamError
from engine.spec import ModelSpec


def check_exchangeable(spec: ModelSpec) -> None:
    """Raises StreamError where a session carries more than keys and values of one branch."""
    guided = any(spec.guided(step) for step in range(len(spec.timesteps)))
    plain = spec.carry == "causal" and spec.start == "noise" and spec.unet.per_frame_norm
    if not plain or guided:
        raise StreamError(
            f"expected a causal model with per-frame norms, from noise and without guidance: what "
            f"sessions of {spec.name} carry as it is run stays where it is"
        )


def rings_of(pool: SessionPool, slot: int, carried: int, hop: int) -> list[HopRings]:
    """Copies of a session's rings, one set a served timestep, oldest frame first."""
    places = places_of(torch.tensor([carried]), pool.context, hop)
    order, present = places.order[0], places.present[0]
    sets = []
    for tensors in pool.rings:
        shapes = [(tensor.shape[4], tensor.shape[5]) for tensor in tensors]
        rings = HopRings(shapes, pool.context, hop)
        for array, tensor in zip(rings.arrays, tensors, strict=True):
            frames = tensor[slot, 0].float().cpu()[:, order]  # [2, c, tokens, channels]
            array[:, present.numpy()] = frames[:, present].numpy()
        rings.valid[:] = present.numpy()
        sets.append(rings)
    return sets


def fill_rings(pool: SessionPool, slot: int, sets: Sequence[HopRings]) -> int:
    """Writes rings into a session's slot; how many frames it carries then.

    Raises:
        StreamError: the rings have other steps, layers or shapes than the pool's.
    """
    if len(sets) != len(pool.rings):
        raise StreamError(f"expected the rings of {len(pool.rings)} steps, got {len(sets)}")
    carried = 0
    for tensors, rings in zip(pool.rings, sets, strict=True):
        want = [(2, *tensor.shape[3:]) for tensor in tensors]
        given = [array.shape for array in rings.arrays]
        if want != given:
            raise StreamError(f"expected rings of shapes {want}, got {given}")
        carried = int(rings.valid.sum())
        for tensor, array in zip(tensors, rings.arrays, strict=True):
            # Frame n of a session lies in slot n mod c; the frames carried over are the first.
            newest = torch.from_numpy(array[:, pool.context - carried :])
            tensor[slot, 0, :, :carried] = newest.to(tensor)
    return carried
