"""How frames of earlier hops are seen: disjoint, pinned, carry and causal, behind one interface.

    mode      a hop computes  it sees of earlier frames          for
    disjoint  its h frames    nothing                            the baseline: upstream's way
    pinned    all W frames    their clean latents, noised anew   the published weights
    carry     its h frames    keys, values and moments in rings  the same, W / h times cheaper
    causal    its h frames    keys and values in rings           weights trained for it

In "carry" every `refresh_hops`-th hop is a pinned one that also fills the rings anew, which bounds
how far they drift from what the network would compute. "causal" needs none: with a block-causal
mask and per-frame norms in training, the rings hold what a whole clip gives.

A mode works on tensors of fixed shapes and writes the sessions' memory in place, so that its calls
can be captured.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from engine.denoise.model import TorchModel
from engine.denoise.pool import (
    Needs,
    Places,
    SessionPool,
    places_of,
    read_frames,
    read_rings,
    write_frames,
    write_rings,
)
from engine.sampler import Sampler, add_noise, alphas_cumprod, guide, predict_x0
from engine.spec import ModelSpec

Kind = Literal["alone", "hop", "window", "refresh"]
Forward = Callable[..., tuple[Tensor, list[Tensor]]]

COLD_TIMESTEP = 999  # a session that starts warm has no frame before: one step from noise


@dataclass(frozen=True, slots=True)
class HopCall:
    """One hop of a batch of sessions, on the device.

    Attributes:
        slots: [b] int64, the sessions' slots in the pool.
        carried: [b] int64, frames that each has carried.
        tokens: [b, h, tokens, width].
        masked, reference: [b, h, C, s, s].
    """

    slots: Tensor
    carried: Tensor
    tokens: Tensor
    masked: Tensor
    reference: Tensor


def needs_of(spec: ModelSpec) -> Needs:
    """The memory that a model's way of carrying asks for."""
    return Needs(
        history=spec.carry == "pinned" or spec.refresh_hops > 0,
        rings=spec.carry in ("carry", "causal"),
    )


def kind_of(spec: ModelSpec, hop: int, carried: int, hops: int, phase: int) -> Kind:
    """What the next hop of a session has to compute.

    Args:
        carried: frames that it has carried.
        hops: hops since it carried none.
        phase: shifts the hops that refresh, so that sessions don't refresh all at once.
    """
    if spec.carry == "disjoint" or hop == spec.window_frames:
        return "alone"
    if spec.carry == "pinned":
        return "window"
    refreshes = spec.refresh_hops > 0 and carried > 0
    return "refresh" if refreshes and (hops + phase) % spec.refresh_hops == 0 else "hop"


def kinds_of(spec: ModelSpec, hop: int) -> tuple[Kind, ...]:
    """Every kind of hop that `kind_of` can ask for."""
    first = kind_of(spec, hop, 0, 0, 0)
    return (first, "refresh") if first == "hop" and spec.refresh_hops else (first,)


class Denoiser:
    """Runs hops of one length over a pool.

    Args:
        mask: [1, s, s], the network's mask channel.
        wrap: put around the network's two entry points, for example `torch.compile`.
    """

    def __init__(
        self,
        model: TorchModel,
        spec: ModelSpec,
        hop: int,
        mask: Tensor,
        *,
        wrap: Callable[[Forward], Forward] = lambda forward: forward,
    ) -> None:
        self._spec = spec
        self._hop = hop
        self._dtype = model.dtype
        self._mask = mask  # [1, s, s]
        self._sampler = Sampler(spec)
        self._hop_forward = wrap(model.unet.forward_hop)
        self._window_forward = wrap(model.unet.forward_window)

    def run(self, kind: Kind, pool: SessionPool, call: HopCall) -> tuple[Tensor, Tensor]:
        """Denoises the new frames; advances what the pool holds.

        Returns:
            Their clean latents [b, h, C, s, s], and the warp channels that the last step gave,
            [b, h, WARP_CHANNELS, s, s]: none where the model has no `source_warp`.
        """
        if kind == "alone":
            latents, warp = self._alone(pool, call)
        elif kind == "hop":
            latents, warp = self._with_rings(pool, call)
        else:
            latents, warp = self._with_window(pool, call, refresh=kind == "refresh")
        if self._spec.start == "warm":
            last = latents[:, -1:].expand(-1, self._hop, -1, -1, -1)
            pool.start[call.slots] = last
        return latents, warp

    def start_cold(self, pool: SessionPool, call: HopCall) -> None:
        """Gives sessions without a frame before something to start warm from."""
        alpha = float(alphas_cumprod()[COLD_TIMESTEP])
        noisy = self._noise(pool, call, 0).expand_as(call.masked)
        prediction, _, _ = self._predict(0, noisy, call, float(COLD_TIMESTEP))
        x0 = predict_x0(noisy, prediction, alpha, self._spec.prediction_type)
        pool.start[call.slots] = x0

    def _alone(self, pool: SessionPool, call: HopCall) -> tuple[Tensor, Tensor]:
        latents = self._first(pool, call)
        for step in range(len(self._spec.timesteps)):
            prediction, warp, _ = self._predict(step, latents, call)
            latents = self._next(pool, call, step, latents, prediction)
        return latents, warp

    def _with_rings(self, pool: SessionPool, call: HopCall) -> tuple[Tensor, Tensor]:
        places = places_of(call.carried, pool.context, self._hop)
        latents = self._first(pool, call)
        for step, rings in enumerate(pool.rings):
            prediction, warp, new = self._predict(
                step, latents, call, rings=read_rings(rings, call.slots), places=places
            )
            write_rings(rings, call.slots, places.next, new)
            latents = self._next(pool, call, step, latents, prediction)
        if needs_of(self._spec).history:
            self._remember(pool, call, places, latents)
        return latents, warp

    def _with_window(
        self, pool: SessionPool, call: HopCall, *, refresh: bool
    ) -> tuple[Tensor, Tensor]:
        places = places_of(call.carried, pool.context, self._hop)
        slots, order = call.slots, places.order
        before = read_frames(pool.latents, slots, order)
        window = HopCall(
            slots,
            call.carried,
            torch.cat([read_frames(pool.tokens, slots, order), call.tokens], dim=1),
            torch.cat([read_frames(pool.masked, slots, order), call.masked], dim=1),
            torch.cat([read_frames(pool.reference, slots, order), call.reference], dim=1),
        )
        own = torch.ones_like(places.present[:, :1]).expand(-1, self._hop)
        present = torch.cat([places.present, own], dim=1)
        # After the hop, the c newest frames of the window are the context.
        filled = places_of(call.carried + self._hop, pool.context, 0).order
        latents = self._first(pool, call)
        for step, alpha in enumerate(self._sampler.alphas[:-1]):
            pinned = add_noise(before, self._noise(pool, call, step), alpha)
            noisy = torch.cat([pinned, latents], dim=1)
            prediction, warp, new = self._predict(
                step, noisy, window, present=present, keep=refresh
            )
            if refresh:
                write_rings(pool.rings[step], slots, filled, new)
            latents = self._next(pool, call, step, latents, prediction[:, pool.context :])
        self._remember(pool, call, places, latents)
        return latents, warp[:, pool.context :]

    def _remember(self, pool: SessionPool, call: HopCall, places: Places, latents: Tensor) -> None:
        for held, new in (
            (pool.latents, latents),
            (pool.masked, call.masked),
            (pool.reference, call.reference),
            (pool.tokens, call.tokens),
        ):
            write_frames(held, call.slots, places.next, new)

    def _noise(self, pool: SessionPool, call: HopCall, step: int) -> Tensor:
        """[b, 1, C, s, s] a session's noise of a step; the same of all where it has but one."""
        noises = pool.noise.index_select(0, call.slots)
        return noises[:, min(step, noises.shape[1] - 1), None]

    def _first(self, pool: SessionPool, call: HopCall) -> Tensor:
        noise = self._noise(pool, call, 0)
        if self._spec.start == "noise":
            return noise.expand(-1, self._hop, -1, -1, -1)
        return add_noise(pool.start[call.slots], noise, self._sampler.alphas[0])

    def _next(
        self, pool: SessionPool, call: HopCall, step: int, latents: Tensor, prediction: Tensor
    ) -> Tensor:
        return self._sampler.step(step, latents, prediction, self._noise(pool, call, step + 1))

    def _predict(
        self,
        step: int,
        latents: Tensor,
        call: HopCall,
        timestep: float | None = None,
        *,
        rings: list[Tensor] | None = None,
        places: Places | None = None,
        present: Tensor | None = None,
        keep: bool = False,
    ) -> tuple[Tensor, Tensor, list[Tensor]]:
        """The network's prediction [b, f, C, s, s], the warp beside it, and what to carry.

        Where the step is guided the prediction is too; the warp is that of the sound, because
        pushing places away from each other would tear the picture.
        """
        batch, frames = latents.shape[:2]
        mask = self._mask.expand(batch, frames, -1, -1, -1)
        parts = [latents.to(self._dtype), mask, call.masked, call.reference]
        sample, tokens = torch.cat(parts, dim=2).transpose(1, 2), call.tokens
        guided = self._spec.guided(step)
        if guided:  # without sound, with sound, session by session
            sample = sample.repeat_interleave(2, dim=0)
            tokens = torch.stack([torch.zeros_like(tokens), tokens], dim=1).flatten(0, 1)

        def each(values: Tensor) -> Tensor:
            return values.repeat_interleave(2, dim=0) if guided else values

        value = float(self._spec.timesteps[step]) if timestep is None else timestep
        times = torch.full((len(sample),), value, device=sample.device)
        if places is not None and rings is not None:
            filled = each(places.filled.to(latents.dtype))
            out, new = self._hop_forward(sample, times, tokens, filled, rings, each(places.of_slot))
        else:
            there = None if present is None else each(present.to(latents.dtype))
            out, new = self._window_forward(sample, times, tokens, there, keep=keep)
        both = out.transpose(1, 2).to(latents.dtype)
        prediction, warp = both.tensor_split((latents.shape[2],), dim=2)
        if guided:
            without, spoken = prediction.reshape(batch, 2, *prediction.shape[1:]).unbind(1)
            prediction, warp = guide(without, spoken, self._spec.guidance_scale), warp[1::2]
        return prediction, warp, new
