"""The Triton kernel behind `benchmarks.kernels.temporal_attention.fused`."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

# Elements of a program's tile [pixels, frames, head width], and its warps. Keys and values live in
# registers: 2 x 4 bytes x 8192 / 256 threads = 256 bytes a thread. Compiled for sm_90a none spills
# (`benchmarks.kernels.compile_check`); which is fastest, a GPU has to say.
TILES = ((8192, 8), (8192, 4), (4096, 4), (2048, 4))


@triton.jit
def attend_ring(
    q,
    own,
    ring,
    oldest,
    valid,
    places,
    out,
    scale,
    pixels: tl.constexpr,
    channels: tl.constexpr,
    context: tl.constexpr,
    ring_slots: tl.constexpr,
    hop: tl.constexpr,
    width: tl.constexpr,
    lanes: tl.constexpr,
    slots: tl.constexpr,
    tile_pixels: tl.constexpr,
):
    """One head of `tile_pixels` pixels of one session, all its new frames."""
    session = tl.program_id(0).to(tl.int64)
    head = tl.program_id(2)
    pixel = tl.program_id(1) * tile_pixels + tl.arange(0, tile_pixels)
    slot = tl.arange(0, slots)
    lane = tl.arange(0, lanes)
    in_picture = pixel < pixels
    in_head = lane < width
    channel = head * width + lane
    frame_size: tl.constexpr = pixels * channels

    carried = slot < context
    new = (slot >= context) & (slot < context + hop)
    ring_slot = (tl.load(oldest + session) + slot) % ring_slots
    shown = tl.load(valid + session * context + slot, mask=carried, other=0.0).to(tl.float32)
    seen = (shown > 0.0) | new

    inner = pixel[:, None, None] * channels + channel[None, None, :]
    bounds = in_picture[:, None, None] & in_head[None, None, :]
    at_ring = (session * 2 * context + ring_slot).to(tl.int64)[None, :, None] * frame_size + inner
    at_own = (session * 2 * hop + slot - context).to(tl.int64)[None, :, None] * frame_size + inner
    from_ring = bounds & carried[None, :, None]
    from_own = bounds & new[None, :, None]
    at_place = slot[:, None] * channels + channel[None, :]
    table = (context + hop) * channels
    placed = (carried | new)[:, None] & in_head[None, :]

    keys = tl.load(ring + at_ring, mask=from_ring, other=0.0).to(tl.float32)
    keys += tl.load(own + at_own, mask=from_own, other=0.0).to(tl.float32)
    keys += tl.load(places + table + at_place, mask=placed, other=0.0).to(tl.float32)[None]
    values = tl.load(ring + at_ring + context * frame_size, mask=from_ring, other=0.0)
    values = values.to(tl.float32)
    values += tl.load(own + at_own + hop * frame_size, mask=from_own, other=0.0).to(tl.float32)
    values += tl.load(places + 2 * table + at_place, mask=placed, other=0.0).to(tl.float32)[None]

    for frame in range(hop):
        flat = pixel[:, None] * channels + channel[None, :]
        inside = in_picture[:, None] & in_head[None, :]
        at = (session * hop + frame) * frame_size + flat
        query = tl.load(q + at, mask=inside, other=0.0).to(tl.float32)
        place = places + (context + frame) * channels + channel
        query += tl.load(place, mask=in_head, other=0.0).to(tl.float32)[None, :]
        scores = tl.sum(query[:, None, :] * keys, axis=2) * scale
        scores = tl.where(seen[None, :], scores, -1e30)
        weights = tl.exp(scores - tl.max(scores, axis=1)[:, None])
        weights = weights / tl.sum(weights, axis=1)[:, None]
        mixed = tl.sum(weights[:, :, None] * values, axis=1)
        tl.store(out + at, mixed.to(out.dtype.element_ty), mask=inside)


def launch(
    q: Tensor,
    own: Tensor,
    ring: Tensor,
    oldest: Tensor,
    valid: Tensor,
    places: Tensor,
    heads: int,
    tile: tuple[int, int] = TILES[0],
) -> Tensor:
    """Runs the kernel; see `benchmarks.kernels.temporal_attention.reference`.

    Args:
        tile: one of `TILES`.
    """
    sessions, hop, pixels, channels = q.shape
    context = ring.shape[2]
    width = channels // heads
    lanes, slots = triton.next_power_of_2(width), triton.next_power_of_2(context + hop)
    tile_pixels = max(1, min(triton.next_power_of_2(pixels), tile[0] // (lanes * slots)))
    out = torch.empty_like(q)
    attend_ring[(sessions, triton.cdiv(pixels, tile_pixels), heads)](
        q,
        own,
        ring,
        oldest,
        valid,
        places,
        out,
        width**-0.5,
        pixels,
        channels,
        context,
        max(context, 1),
        hop,
        width,
        lanes,
        slots,
        tile_pixels,
        num_warps=tile[1],
    )
    return out
