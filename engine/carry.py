"""The carried temporal context of one session: rings of keys and values.

A ring belongs to one temporal self-attention at one served timestep. It holds
the keys and values of the last `context` frames BEFORE positions are added
(the position is added when they are read), oldest first. A hop reads the
rings, emits the keys and values of its own frames, and pushes those.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from engine.errors import StreamError
from engine.media import F32


class HopRings:
    """The rings of all temporal self-attentions of one network pass.

    Attributes:
        arrays: float32 [2, context, tokens, channels] a layer (0 = keys, 1 = values),
            oldest frame first. Updated in place: their memory stays where it is.
        valid: float32 [context], 1.0 where a slot holds a frame. Frames fill the
            slots from the end, because the newest sits next to the new frames.
    """

    def __init__(self, shapes: Sequence[tuple[int, int]], context: int, hop: int) -> None:
        """Empty rings.

        Args:
            shapes: (tokens, channels) of each temporal self-attention, in order.
            context: frames carried, window - hop. With 0 nothing is carried.
            hop: new frames of every push.
        """
        if context < 0 or hop < 1:
            raise StreamError(f"expected context >= 0 and hop >= 1, got {context} and {hop}")
        self.hop = hop
        self.context = context
        carried = shapes if context else ()
        self.arrays: list[F32] = [
            np.zeros((2, context, tokens, channels), np.float32) for tokens, channels in carried
        ]
        self.valid: F32 = np.zeros(context, np.float32)

    def push(self, new: Sequence[F32]) -> None:
        """Drops the oldest `hop` frames and appends the new ones.

        Args:
            new: float32 [2, hop, tokens, channels] a layer, as the network emitted them.

        Raises:
            StreamError: other layers or shapes than these rings have.
        """
        if len(new) != len(self.arrays):
            raise StreamError(
                f"expected keys and values of {len(self.arrays)} layers, got {len(new)}"
            )
        kept = max(self.context - self.hop, 0)
        taken = self.context - kept
        for array, fresh in zip(self.arrays, new, strict=True):
            want = (2, self.hop, *array.shape[2:])
            if fresh.shape != want:
                raise StreamError(
                    f"expected new keys and values of shape {want}, got {fresh.shape}"
                )
            array[:, :kept] = array[:, self.context - kept :]
            array[:, kept:] = fresh[:, self.hop - taken :]
        self.valid[:kept] = self.valid[self.context - kept :].copy()
        self.valid[kept:] = 1.0

    def copy(self) -> HopRings:
        """The same frames in memory of their own."""
        shapes = [(array.shape[2], array.shape[3]) for array in self.arrays]
        other = HopRings(shapes, self.context, self.hop)
        other.copy_from(self)
        return other

    def copy_from(self, other: HopRings) -> None:
        """Takes over another session's frames.

        Raises:
            StreamError: its rings have other layers or shapes.
        """
        own = [array.shape for array in self.arrays]
        given = [array.shape for array in other.arrays]
        if own != given or (self.hop, self.context) != (other.hop, other.context):
            raise StreamError(
                f"expected rings of {len(own)} layers, {self.context} frames and hops of "
                f"{self.hop}, got {len(given)}, {other.context} and {other.hop}"
            )
        for array, source in zip(self.arrays, other.arrays, strict=True):
            array[:] = source
        self.valid[:] = other.valid

    def at_hop(self, hop: int) -> HopRings:
        """Rings for hops of another length over the same window, with the frames carried here.

        Longer hops leave less of the window to context, so that the oldest frames go; shorter
        ones leave more, which the next hops fill.

        Raises:
            StreamError: a hop that the window cannot hold.
        """
        context = self.context + self.hop - hop
        shapes = [(array.shape[2], array.shape[3]) for array in self.arrays]
        rings = HopRings(shapes, context, hop)
        kept = min(context, self.context)
        if kept:
            for array, old in zip(rings.arrays, self.arrays, strict=True):
                array[:, context - kept :] = old[:, self.context - kept :]
            rings.valid[context - kept :] = self.valid[self.context - kept :]
        return rings

    def reset(self) -> None:
        """Forgets all frames."""
        for array in self.arrays:
            array[:] = 0.0
        self.valid[:] = 0.0
