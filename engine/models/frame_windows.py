"""Which frames see which, in one call of the U-Net.

The frames of a call come in blocks of `hop` frames. A block sees itself and
the `context` frames before it; inside its window context takes places
0 .. context - 1 and its own frames the places after. All three ways to run the
network are this, with different numbers:

    way      blocks      context   frames before the call
    window   1           0         none
    hop      1           c         read from rings
    clip     F / hop     c         none: the start of a stream

so a hop and a clip cannot differ but in where the context comes from.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

HIDDEN = -1e4  # added to the score of a frame that is not there; finite in fp16


class FrameWindows:
    """One call's view of frames, with the rings it reads and the entries it writes.

    Attributes:
        frames: the call's own frames.
        hop: of them in a block.
        context: earlier frames in the window of a block.
        places: [b, context + hop] the frames' positions in the window, for rings that
            are not in order; None where they lie one after the other.
        bias: additive attention bias, broadcast over [b * blocks, 1, hop, context + hop],
            or None where all frames see all frames.
        present: [b * blocks | 1, context + hop] 1.0 where the window has a frame, or None
            where it has all.
        new_rings: per temporal attention, in order of execution, the keys and values
            of the call's own frames; empty unless they are to be kept.
        new_moments: per pooled norm, in order of execution, their moments.
    """

    def __init__(
        self,
        frames: int,
        hop: int,
        context: int = 0,
        *,
        places: Tensor | None = None,
        bias: Tensor | None = None,
        present: Tensor | None = None,
        rings: Sequence[Tensor] | None = None,
        moments: Sequence[Tensor] | None = None,
        keep: bool = True,
    ) -> None:
        self.frames = frames
        self.hop = hop
        self.context = context
        self.places = places
        self.bias = bias
        self.present = present
        self._keep = keep
        self.new_rings: list[Tensor] = []
        self.new_moments: list[Tensor] = []
        self._rings = None if rings is None else iter(rings)
        self._moments = None if moments is None else iter(moments)

    @classmethod
    def of_window(
        cls,
        frames: int,
        mask: Tensor | None = None,
        present: Tensor | None = None,
        *,
        keep: bool = False,
    ) -> FrameWindows:
        """All frames see all frames.

        Args:
            mask: optional [frames, frames], True (or 1.0) where the row's frame
                sees the column's.
            present: optional [b, frames], 1.0 where there is a frame; what is not there
                is seen by none.
            keep: note the keys, values and moments of all frames.
        """
        bias = None if mask is None else _bias(mask.float())[None, None]
        if present is not None:
            hidden = _bias(present)[:, None, None]
            bias = hidden if bias is None else bias + hidden
        return cls(frames, frames, bias=bias, present=present, keep=keep)

    @classmethod
    def of_hop(
        cls,
        frames: int,
        valid: Tensor | None,
        rings: Sequence[Tensor],
        moments: Sequence[Tensor],
        places: Tensor | None = None,
    ) -> FrameWindows:
        """New frames see themselves and the carried ones.

        Args:
            valid: [b, context] 1.0 where a ring's slot is filled; None without context.
            rings: [b, 2, context, pixels, channels] of each temporal attention.
            moments: [b, 2, context, groups] of each pooled norm.
            places: [b, context] int64, the position 0 .. context - 1 of each ring slot;
                None where the oldest frame comes first.
        """
        if valid is None or valid.shape[1] == 0:
            return cls(frames, frames)
        if places is not None:
            last = torch.arange(frames, device=places.device) + valid.shape[1]
            places = torch.cat([places, last.expand(places.shape[0], -1)], dim=1)
        own = torch.ones_like(valid[:, :1]).expand(-1, frames)
        present = torch.cat([valid, own], dim=1)
        return cls(
            frames,
            frames,
            valid.shape[1],
            places=places,
            bias=_bias(present)[:, None, None],
            present=present,
            rings=rings,
            moments=moments,
        )

    @classmethod
    def of_clip(cls, frames: int, hop: int, context: int, batch: int, like: Tensor) -> FrameWindows:
        """Every block of a clip at once, from the start of a stream."""
        places = torch.arange(context + hop, device=like.device)
        blocks = torch.arange(frames // hop, device=like.device)
        present = (blocks[:, None] * hop + places >= context).to(like.dtype)
        present = present.repeat(batch, 1)
        return cls(frames, hop, context, bias=_bias(present)[:, None, None], present=present)

    def keys_values(self, own: Tensor) -> Tensor:
        """Keys and values in the windows of all blocks, before positions.

        Args:
            own: [b, 2, f, pixels, channels] of the call's own frames.

        Returns:
            [b * blocks, 2, context + hop, pixels, channels]
        """
        if self._keep:
            self.new_rings.append(own)
        return self._gather(own, self._rings)

    def moments(self, own: Tensor) -> Tensor:
        """Norm moments in the windows of all blocks.

        Args:
            own: [b, 2, f, groups], mean and variance of each of the call's own frames.

        Returns:
            [b * blocks, 2, context + hop, groups]
        """
        if self._keep:
            self.new_moments.append(own)
        return self._gather(own, self._moments)

    def _gather(self, own: Tensor, rings: Iterator[Tensor] | None) -> Tensor:
        if self.context == 0 and self.frames == self.hop:
            return own
        if rings is not None:
            return torch.cat([next(rings), own], dim=2)
        rest = own.shape[3:]
        seen = self.context + self.hop
        before = own.new_zeros(own.shape[0], 2, self.context, *rest)
        places = torch.arange(seen, device=own.device)
        starts = torch.arange(0, self.frames, self.hop, device=own.device)
        index = (starts[:, None] + places).flatten()
        windows = torch.cat([before, own], dim=2).index_select(2, index)
        return windows.reshape(-1, 2, len(starts), seen, *rest).transpose(1, 2).flatten(0, 1)


def _bias(present: Tensor) -> Tensor:
    return (1.0 - present) * HIDDEN
