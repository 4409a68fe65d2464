"""Attention of every pixel over the frames of its window, keys and values read from the ring.

`reference` is what `engine.models.temporal.TemporalAttention` does between its projections: it
gathers context and new frames, adds positions to copies, transposes and attends. `fused` reads
each key and value once from where it lies: ring slots through a cursor, so that a ring need not be
shifted, and positions added in registers.
"""

from __future__ import annotations

import torch
from torch import Tensor

from engine.models.attention import attend
from engine.models.frame_windows import HIDDEN


def reference(
    q: Tensor,
    own: Tensor,
    ring: Tensor,
    oldest: Tensor,
    valid: Tensor,
    places: Tensor,
    heads: int,
) -> Tensor:
    """What every new frame reads from its window, before the output projection.

    Args:
        q: [b, h, pixels, channels] queries of the new frames, no position added.
        own: [b, 2, h, pixels, channels] keys and values of the new frames, likewise.
        ring: [b, 2, c, pixels, channels] those of the context.
        oldest: int32 [b], the ring slot of the oldest frame; the next ones follow, wrapping.
        valid: [b, c] 1.0 where the context has a frame, oldest first.
        places: [3, c + h, channels] the projected positions: of queries, keys, values.

    Returns:
        [b, h, pixels, channels]
    """
    sessions, hop, pixels, channels = q.shape
    context = ring.shape[2]
    slots = (oldest[:, None].long() + torch.arange(context, device=q.device)) % max(context, 1)
    index = slots[:, None, :, None, None].expand(-1, 2, -1, pixels, channels)
    seen = torch.cat([ring.gather(2, index), own], dim=2)

    def split(x: Tensor) -> Tensor:
        shape = (sessions, x.shape[1], pixels * heads, channels // heads)
        return x.reshape(shape).transpose(1, 2)

    k = split(seen[:, 0] + places[1, :, None])
    v = split(seen[:, 1] + places[2, :, None])
    queries = split(q + places[0, context:, None])
    hidden = (1.0 - valid) * HIDDEN
    bias = torch.cat([hidden, hidden.new_zeros(sessions, hop)], dim=1)[:, None, None]
    mixed = attend(queries, k, v, bias)
    return mixed.transpose(1, 2).reshape(q.shape)


def fused(
    q: Tensor,
    own: Tensor,
    ring: Tensor,
    oldest: Tensor,
    valid: Tensor,
    places: Tensor,
    heads: int,
    tile: tuple[int, int] | None = None,
) -> Tensor:
    """What `reference` gives, by Triton; the arguments are the same, all contiguous.

    Args:
        tile: elements and warps of a program, one of `temporal_attention_triton.TILES`.

    Raises:
        ImportError: Triton is not installed.
    """
    from benchmarks.kernels.temporal_attention_triton import TILES, launch

    return launch(q, own, ring, oldest, valid, places, heads, tile or TILES[0])
