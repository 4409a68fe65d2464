"""How far the ways to see earlier frames lie from each other, and how fast carried keys age.

What `refresh_hops` should be follows from the second: keys and values in the rings were computed
when their frames were new, and a refresh would compute them again from the context of now.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from numpy.typing import NDArray
from torch import Tensor

from benchmarks.precisions import Distance
from engine.backends.base import HopInput
from engine.backends.inputs import latents_shape, session_noise
from engine.backends.torch_backend import TorchBackend
from engine.denoise.model import TorchModel
from engine.denoise.pool import Needs, SessionPool, places_of
from engine.denoise.window_modes import Denoiser, HopCall
from engine.face.mask import mask_latents
from engine.media import F32
from engine.spec import ModelSpec

SMOOTHNESS = 0.95  # of a frame that it keeps of the one before
NEVER = 1 << 30  # refresh_hops: the history is kept, and no hop refreshes


@dataclass(frozen=True, slots=True)
class Clip:
    """A stream's inputs: log-mels [f, n_mels, mel_frames], face latents [f, C, s, s]."""

    mel: F32
    masked: F32
    reference: F32

    @classmethod
    def random(cls, spec: ModelSpec, frames: int, seed: int = 0) -> Clip:
        """Inputs that change from frame to frame as pictures and sounds do: slowly."""
        face = latents_shape(spec)
        mel = (spec.audio.n_mels, spec.audio.mel_frames)
        shapes: tuple[tuple[int, ...], ...] = (mel, face, face)
        parts = [_walk((frames, *shape), seed + index) for index, shape in enumerate(shapes)]
        return cls(*parts)


def _walk(shape: tuple[int, ...], seed: int) -> F32:
    steps = np.random.default_rng(seed).standard_normal(shape, np.float32)
    for index in range(1, shape[0]):
        steps[index] = SMOOTHNESS * steps[index - 1] + (1 - SMOOTHNESS**2) ** 0.5 * steps[index]
    return steps


def stream_latents(model: TorchModel, way: ModelSpec, clip: Clip) -> F32:
    """Clean latents [f, C, s, s] of a stream in hops of `way.hop_frames`."""
    backend = TorchBackend(model, way, buckets=(1,), graphs=False)
    hop = way.hop_frames
    session = backend.new_session(hop_frames=hop, seed=0)
    made = []
    for start in range(0, len(clip.mel) - hop + 1, hop):
        cut = slice(start, start + hop)
        item = HopInput(session, clip.mel[cut], clip.masked[cut], clip.reference[cut])
        (hop_made,) = backend.denoise([item])
        made.append(hop_made.latents.swapaxes(0, 1))
    return np.concatenate(made)


def boundary_ratio(latents: F32, hop: int) -> float | None:
    """Mean |frame difference| at the hops' borders over that inside hops; 1.0 is no seam.

    None where there is no border, or nothing else.
    """
    change = np.abs(np.diff(latents, axis=0)).mean(axis=(1, 2, 3))
    border = (np.arange(len(change)) + 1) % hop == 0
    if not border.any() or border.all():
        return None
    return round(float(change[border].mean() / change[~border].mean()), 4)


def mode_distances(
    model: TorchModel, ways: Mapping[str, ModelSpec], clip: Clip
) -> list[dict[str, object]]:
    """Every way against every other: all frames, and those that touch no border of either.

    Frames of the first window, in which contexts fill, are left out.
    """
    latents = {name: stream_latents(model, way, clip) for name, way in ways.items()}
    rows: list[dict[str, object]] = []
    for name, way in ways.items():
        row: dict[str, object] = {"mode": name, "hop": way.hop_frames}
        own = latents[name]
        row["boundary_ratio"] = boundary_ratio(own[way.window_frames :], way.hop_frames)
        for other, other_way in ways.items():
            if other == name:
                continue
            count = min(len(own), len(latents[other]))
            frames = np.arange(count)
            settled = frames >= way.window_frames
            inner = settled & ~_touches(frames, way) & ~_touches(frames, other_way)
            for label, chosen in (("", settled), (" boundary-free", inner)):
                if not chosen.any():
                    row[f"to {other}{label}"] = None
                    continue
                distance = Distance.of(
                    torch.from_numpy(own[:count][chosen]),
                    torch.from_numpy(latents[other][:count][chosen]),
                )
                row[f"to {other}{label}"] = distance.relative
        rows.append(row)
    return rows


def _touches(frames: NDArray[np.int64], way: ModelSpec) -> NDArray[np.bool_]:
    """Which frames are the first or last of a hop, where hops are long enough to have others."""
    if way.hop_frames < 3:
        return np.zeros(len(frames), np.bool_)
    place = frames % way.hop_frames
    return np.asarray((place == 0) | (place == way.hop_frames - 1))


@dataclass(frozen=True, slots=True)
class KeyAge:
    """Carried against recomputed context after so many hops without a refresh.

    Attributes:
        keys, values: mean cosine over layers, pixels and frames that were carried.
        keys_worst, values_worst: of the worst layer.
        layers: of each layer at each step, the keys' mean cosine.
        latents: relative distance of the new frames between the two ways to make this hop.
    """

    hops: int
    keys: float
    keys_worst: float
    values: float
    values_worst: float
    latents: float | None
    layers: list[list[float]]


@torch.inference_mode()
def key_ages(model: TorchModel, way: ModelSpec, clip: Clip) -> list[KeyAge]:
    """How carried keys and values age over the hops of a clip.

    Args:
        way: in mode "carry".
    """
    spec = dataclasses.replace(way, carry="carry", refresh_hops=NEVER)
    device, hop = model.device, spec.hop_frames
    context = spec.window_frames - hop
    mask = torch.from_numpy(mask_latents(spec)).to(device, model.dtype)[None]
    denoiser = Denoiser(model, spec, hop, mask)
    pool = SessionPool(model, spec, hop, Needs(history=True, rings=True), capacity=1)
    slot = pool.acquire(_noise(spec, pool))
    ages = []
    for index in range(len(clip.mel) // hop):
        call = _call(model, clip, slot, index * hop, hop)
        if index == 0:
            denoiser.run("hop", pool, call)
            continue
        again = copy.deepcopy(pool)
        fresh, _ = denoiser.run("refresh", again, call)
        latents, _ = denoiser.run("hop", pool, call)
        places = places_of(call.carried, context, hop)
        carried = places.filled[0].clone()
        carried[places.next[0]] = False
        if bool(carried.any()):
            distance = Distance.of(latents, fresh).relative
            ages.append(_age(index, pool, again, slot, carried, distance))
    return ages


def _age(
    hops: int,
    pool: SessionPool,
    again: SessionPool,
    slot: int,
    carried: Tensor,
    latents: float | None,
) -> KeyAge:
    keys: list[list[float]] = []
    values: list[list[float]] = []
    for own, fresh in zip(pool.rings, again.rings, strict=True):
        of_layer = [
            _cosines(a[slot][:, :, carried], b[slot][:, :, carried])
            for a, b in zip(own, fresh, strict=True)
            if a.dim() == 6  # moments have no channels
        ]
        keys.append([key for key, _ in of_layer])
        values.append([value for _, value in of_layer])
    return KeyAge(
        hops=hops,
        keys=float(np.mean(keys)),
        keys_worst=float(np.min(keys)),
        values=float(np.mean(values)),
        values_worst=float(np.min(values)),
        latents=latents,
        layers=[[round(key, 6) for key in step] for step in keys],
    )


def _cosines(own: Tensor, fresh: Tensor) -> tuple[float, float]:
    """Mean cosines of keys and of values [branches, 2, frames, pixels, channels]."""
    cosine = F.cosine_similarity(own.float(), fresh.float(), dim=-1).mean(dim=(0, 2, 3))
    return float(cosine[0]), float(cosine[1])


def _noise(spec: ModelSpec, pool: SessionPool) -> Tensor:
    return torch.from_numpy(session_noise(spec, 0, pool.noise.shape[1])).to(pool.noise)


def _call(model: TorchModel, clip: Clip, slot: int, start: int, hop: int) -> HopCall:
    def part(values: F32) -> Tensor:
        return torch.from_numpy(values[start : start + hop]).to(model.device, model.dtype)

    return HopCall(
        slots=torch.tensor([slot], device=model.device),
        carried=torch.tensor([start], device=model.device),
        tokens=model.audio_encoder(part(clip.mel))[None],
        masked=part(clip.masked)[None],
        reference=part(clip.reference)[None],
    )
