"""A KL codec of the published depth and little width, taught the faces in minutes.

The published weights are not at hand, and random ones say nothing about the
pictures' statistics that group norms depend on. This one is trained by its
reconstruction alone.
"""

from __future__ import annotations

import logging
import time
from pathlib import Path

import torch
import torch.nn.functional as F  # noqa: N812
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from engine.models.kl_vae import KlCodec
from engine.spec import CodecSpec

logger = logging.getLogger(__name__)

SMALL = CodecSpec(kind="kl", block_out_channels=(16, 32, 64, 64), norm_num_groups=8)
LATENT_NOISE = 0.05  # keeps the decoder from resting on the latents' last digits


def train_small_vae(pictures: Tensor, seconds: float, seed: int = 0) -> tuple[KlCodec, int]:
    """A codec of these pictures, and the steps it was taught.

    Args:
        pictures: [n, 3, R, R] in [-1, 1].
        seconds: CPU time; the learning rate falls to zero over it.
    """
    torch.manual_seed(seed)
    codec = KlCodec(SMALL).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimiser = torch.optim.AdamW(codec.parameters(), lr=0.0, weight_decay=0.0)
    start, steps, share = time.process_time(), 0, 0.0
    while share < 1.0:
        # Most of the time on quarters of pictures: a whole one costs four times as much.
        batch = _windows(pictures, 2 if share < 0.7 else 1, whole=share >= 0.7)
        for group in optimiser.param_groups:
            group["lr"] = 2e-3 * min(1.0, (steps + 1) / 20) * (1.0 - share) ** 0.7
        latents = codec.encode(batch)
        noise = LATENT_NOISE * latents.detach().std() * torch.randn_like(latents)
        decoded = codec.decode(latents + noise)
        loss = F.l1_loss(decoded, batch) + F.l1_loss(_edges(decoded), _edges(batch))
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(codec.parameters(), 1.0)
        optimiser.step()
        steps += 1
        share = (time.process_time() - start) / seconds
        if steps % 50 == 0:
            logger.info("step %d, loss %.4f, %.0f %%", steps, loss.item(), 100 * share)
    return codec.eval().requires_grad_(False), steps


def load_small_vae(path: Path) -> tuple[KlCodec, dict[str, str]]:
    """A codec that `save_small_vae` wrote, and what was told about it."""
    codec = KlCodec(SMALL)
    codec.load_state_dict(load_file(path))
    with safe_open(path, framework="pt") as file:
        about: dict[str, str] = file.metadata()
    return codec.eval().requires_grad_(False), about


def save_small_vae(codec: KlCodec, path: Path, about: dict[str, str]) -> None:
    weights = {key: value.contiguous() for key, value in codec.state_dict().items()}
    save_file(weights, path, metadata=about)


def _windows(pictures: Tensor, count: int, *, whole: bool) -> Tensor:
    chosen = pictures[torch.randint(len(pictures), (count,))]
    if not whole:
        size = pictures.shape[2] // 2
        top, left = torch.randint(size + 1, (2,)).tolist()
        chosen = chosen[:, :, top : top + size, left : left + size]
    return chosen.contiguous(memory_format=torch.channels_last)


def _edges(x: Tensor) -> Tensor:
    return torch.cat(
        [
            (x[:, :, 1:] - x[:, :, :-1]).flatten(2),
            (x[:, :, :, 1:] - x[:, :, :, :-1]).flatten(2),
        ],
        dim=2,
    )
