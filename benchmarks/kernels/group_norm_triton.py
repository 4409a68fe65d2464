"""The Triton kernels behind `benchmarks.kernels.group_norm.fused`."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

BLOCK = 2048  # elements that a program holds at once


@triton.jit
def frame_moments(
    x,
    own,
    frames: tl.constexpr,
    groups: tl.constexpr,
    size: tl.constexpr,
    block: tl.constexpr,
):
    """Mean and variance of one group of one frame: program (frame of all sessions, group)."""
    frame = tl.program_id(0).to(tl.int64)
    group = tl.program_id(1)
    start = x + (frame * groups + group) * size
    lane = tl.arange(0, block)
    total = tl.zeros([block], tl.float32)
    for at in range(0, size, block):
        total += tl.load(start + at + lane, mask=at + lane < size, other=0.0).to(tl.float32)
    mean = tl.sum(total, axis=0) / size
    spread = tl.zeros([block], tl.float32)
    for at in range(0, size, block):
        inside = at + lane < size
        value = tl.load(start + at + lane, mask=inside, other=0.0).to(tl.float32)
        away = tl.where(inside, value - mean, 0.0)
        spread += away * away
    session = frame // frames
    slot = own + (session * 2 * frames + frame % frames) * groups + group
    tl.store(slot, mean)
    tl.store(slot + frames * groups, tl.sum(spread, axis=0) / size)


@triton.jit
def norm_silu(
    x,
    out,
    weight,
    bias,
    ring,
    own,
    present,
    eps,
    pixels: tl.constexpr,
    frames: tl.constexpr,
    context: tl.constexpr,
    groups: tl.constexpr,
    size: tl.constexpr,
    block: tl.constexpr,
    slots: tl.constexpr,
):
    """Norms and activates one group of one frame by the pooled moments of its window."""
    frame = tl.program_id(0).to(tl.int64)
    group = tl.program_id(1)
    session = frame // frames

    slot = tl.arange(0, slots)
    carried = slot < context
    new = (slot >= context) & (slot < context + frames)
    at_ring = ring + (session * 2 * context + slot) * groups + group
    at_own = own + (session * 2 * frames + slot - context) * groups + group
    means = tl.load(at_ring, mask=carried, other=0.0) + tl.load(at_own, mask=new, other=0.0)
    variances = tl.load(at_ring + context * groups, mask=carried, other=0.0)
    variances += tl.load(at_own + frames * groups, mask=new, other=0.0)
    share = tl.load(present + session * (context + frames) + slot, mask=carried | new, other=0.0)
    share = share / tl.sum(share, axis=0)
    mean = tl.sum(share * means, axis=0)
    away = means - mean
    scale = 1.0 / tl.sqrt(tl.sum(share * (variances + away * away), axis=0) + eps)

    start = (frame * groups + group) * size
    first_channel = group * (size // pixels)
    lane = tl.arange(0, block)
    for at in range(0, size, block):
        inside = at + lane < size
        channel = first_channel + (at + lane) // pixels
        value = tl.load(x + start + at + lane, mask=inside, other=0.0).to(tl.float32)
        gain = tl.load(weight + channel, mask=inside, other=0.0).to(tl.float32)
        shift = tl.load(bias + channel, mask=inside, other=0.0).to(tl.float32)
        value = (value - mean) * scale * gain + shift
        value = value / (1.0 + tl.exp(-value))
        tl.store(out + start + at + lane, value.to(out.dtype.element_ty), mask=inside)


def launch(
    x: Tensor, weight: Tensor, bias: Tensor, ring: Tensor, present: Tensor, eps: float
) -> tuple[Tensor, Tensor]:
    """Runs both kernels; see `benchmarks.kernels.group_norm.reference` for the arguments."""
    sessions, _, context, groups = ring.shape
    frames = present.shape[1] - context
    count, channels, height, width = x.shape
    size = channels // groups * height * width
    own = torch.empty(sessions, 2, frames, groups, device=x.device, dtype=torch.float32)
    out = torch.empty_like(x)
    grid = (count, groups)
    block = min(BLOCK, triton.next_power_of_2(size))
    slots = triton.next_power_of_2(context + frames)
    frame_moments[grid](x, own, frames, groups, size, block)
    norm_silu[grid](
        x,
        out,
        weight,
        bias,
        ring.contiguous(),
        own,
        present.contiguous(),
        eps,
        height * width,
        frames,
        context,
        groups,
        size,
        block,
        slots,
    )
    return out, own
