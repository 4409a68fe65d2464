"""What sessions carry, on the device: one slot of every tensor for each session.

Rings are circular and are read and written where they lie. Frame n of a session has the ring
slot n mod c, so that all of a ring's bookkeeping is one number, how many frames the session has
carried; which position of the window a slot holds follows from it (`Places`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from engine.denoise.model import TorchModel
from engine.errors import StreamError
from engine.sampler import Sampler
from engine.spec import ModelSpec

FEWEST_MORE = 4  # slots that a pool grows by
PADDING_SLOT = 0  # belongs to no session: what fills a batch up reads and writes there


@dataclass(frozen=True, slots=True)
class Needs:
    """Which memory a window mode asks for.

    Attributes:
        history: clean latents, faces and audio tokens of the context.
        rings: keys, values and moments of the context, at every timestep.
    """

    history: bool
    rings: bool


@dataclass(frozen=True, slots=True)
class Places:
    """Where the frames of a ring lie in the window, for a batch of sessions.

    Attributes:
        order: [b, c] int64, ring slots from the oldest frame to the newest.
        present: [b, c] whether there is such a frame, in that order.
        of_slot: [b, c] int64, the position 0 .. c - 1 of each ring slot.
        filled: [b, c] whether each ring slot holds a frame.
        next: [b, min(h, c)] int64, the ring slots of the newest of h frames to come.
        keep: how many of the h frames those are.
    """

    order: Tensor
    present: Tensor
    of_slot: Tensor
    filled: Tensor
    next: Tensor
    keep: int


def places_of(carried: Tensor, context: int, hop: int) -> Places:
    """The places of sessions that have carried so many frames.

    Args:
        carried: [b] int64, frames since the session's context was last empty.
        context: c >= 1, slots of the ring.
        hop: h, frames to come.
    """
    steps = torch.arange(context, device=carried.device)
    count = carried[:, None]
    of_slot = (steps - count) % context
    keep = min(hop, context)
    coming = torch.arange(hop - keep, hop, device=carried.device)
    return Places(
        order=(count + steps) % context,
        present=steps >= context - count,
        of_slot=of_slot,
        filled=of_slot >= context - count,
        next=(count + coming) % context,
        keep=keep,
    )


class SessionPool:
    """The memory of all sessions of one hop length.

    Args:
        capacity: sessions that it has room for at first; when they are more it grows by half,
            which costs the graphs that were captured over it.

    Attributes:
        noise: [slots, n, C, s, s] the sessions' fixed noises.
        start: [slots, h, C, s, s] clean latents that the next hop starts warm from.
        latents, masked, reference: [slots, c, C, s, s] of the context, clean.
        tokens: [slots, c, tokens, width] of the context.
        rings: by timestep, then by layer, [slots, branches, 2, c, ...]: keys and values
            before positions, then the moments of pooled norms; guided steps have two branches.
        generation: rises when the tensors were replaced by larger ones.
    """

    def __init__(
        self, model: TorchModel, spec: ModelSpec, hop: int, needs: Needs, capacity: int = 4
    ) -> None:
        self.context = spec.window_frames - hop
        self.generation = 0
        self._free = list(range(capacity, PADDING_SLOT, -1))
        slots, context = capacity + 1, self.context
        channels, size = spec.codec.latent_channels, spec.latent_size
        face = (channels, size, size)
        latents = torch.zeros(0, dtype=model.latents_dtype, device=model.device)
        network = torch.zeros(0, dtype=model.dtype, device=model.device)
        held = context if needs.history else 0
        self.noise = latents.new_zeros(slots, Sampler(spec).noises, *face)
        self.start = latents.new_zeros(slots, hop if spec.start == "warm" else 0, *face)
        self.latents = latents.new_zeros(slots, held, *face)
        self.masked = network.new_zeros(slots, held, *face)
        self.reference = network.new_zeros(slots, held, *face)
        self.tokens = network.new_zeros(slots, held, spec.audio.tokens, spec.audio.width)
        self.rings: list[list[Tensor]] = []
        carried = context if needs.rings else 0
        for step in range(len(spec.timesteps) if carried else 0):
            branches = 2 if spec.guided(step) else 1
            lead = (slots, branches, 2, carried)
            rings = [network.new_zeros(*lead, *rest) for rest in model.unet.ring_shapes(size)]
            # Moments stay in f32: a variance of nearly equal numbers needs its digits.
            rings += [latents.new_zeros(*lead, groups) for groups in model.unet.moment_shapes()]
            self.rings.append(rings)

    @property
    def slots(self) -> int:
        return int(self.noise.shape[0])

    @property
    def session_bytes(self) -> int:
        """Device memory of one session."""
        return sum(t[0].numel() * t.element_size() for t in self._tensors())

    @torch.inference_mode()
    def acquire(self, noise: Tensor) -> int:
        """A slot for a session with these fixed noises [n, C, s, s].

        Raises:
            StreamError: noises of another shape.
        """
        if noise.shape != self.noise.shape[1:]:
            raise StreamError(f"expected noises {self.noise.shape[1:]}, got {noise.shape}")
        if not self._free:
            self._grow()
        slot = self._free.pop()
        self.noise[slot] = noise
        return slot

    def release(self, slot: int) -> None:
        """Takes a slot back."""
        self._free.append(slot)

    def _tensors(self) -> list[Tensor]:
        flat = [ring for rings in self.rings for ring in rings]
        return [
            self.noise,
            self.start,
            self.latents,
            self.masked,
            self.reference,
            self.tokens,
            *flat,
        ]

    def _grow(self) -> None:
        more = max(self.slots // 2, FEWEST_MORE)
        self._free = list(range(self.slots + more - 1, self.slots - 1, -1))

        def grown(tensor: Tensor) -> Tensor:
            return torch.cat([tensor, tensor.new_zeros(more, *tensor.shape[1:])])

        self.noise, self.start = grown(self.noise), grown(self.start)
        self.latents, self.tokens = grown(self.latents), grown(self.tokens)
        self.masked, self.reference = grown(self.masked), grown(self.reference)
        self.rings = [[grown(ring) for ring in rings] for rings in self.rings]
        self.generation += 1


def read_rings(rings: Sequence[Tensor], slots: Tensor) -> list[Tensor]:
    """[b * branches, 2, c, ...] of each ring, for the sessions in `slots` [b]."""
    return [ring.index_select(0, slots).flatten(0, 1) for ring in rings]


def write_rings(
    rings: Sequence[Tensor], slots: Tensor, places: Tensor, new: Sequence[Tensor]
) -> None:
    """Writes the newest frames into the rings, in place.

    Args:
        slots: [b] of the sessions.
        places: [b, n] ring slots.
        new: [b * branches, 2, f, ...] of each ring; the last n frames are kept.
    """
    for ring, own in zip(rings, new, strict=True):
        newest = own[:, :, own.shape[2] - places.shape[1] :]
        frames = newest.reshape(len(slots), ring.shape[1], *newest.shape[1:]).movedim(3, 1)
        ring[slots[:, None], :, :, places] = frames.to(ring.dtype)


def read_frames(held: Tensor, slots: Tensor, order: Tensor) -> Tensor:
    """[b, c, ...] of [slots, c, ...], the sessions' frames in `order` [b, c]."""
    return held[slots[:, None], order]


def write_frames(held: Tensor, slots: Tensor, places: Tensor, new: Tensor) -> None:
    """Writes the newest frames of [b, f, ...] to `places` [b, n], in place."""
    held[slots[:, None], places] = new[:, new.shape[1] - places.shape[1] :].to(held.dtype)
