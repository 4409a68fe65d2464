"""What happens to a hop between its networks, as modules: `export.hop_graphs` has their tensors."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def weighted(weights: Tensor, tensors: list[Tensor]) -> Tensor:
    """The sum of tensors [b, f, C, s, s], each by its column of weights [b, k]."""
    columns = weights[:, :, None, None, None, None]
    total = columns[:, 0] * tensors[0]
    for index, tensor in enumerate(tensors[1:], 1):
        total = total + columns[:, index] * tensor
    return total


def noises_in(noise: Tensor) -> list[Tensor]:
    """[b, 1, C, s, s] each, of [b, n, C, s, s]."""
    return [noise[:, index : index + 1] for index in range(noise.shape[1])]


def doubled(tensor: Tensor, branches: int) -> Tensor:
    """[b, r, ...] of [b, ...], the same for each branch; as it is where there is one."""
    return torch.stack([tensor] * branches, dim=1) if branches > 1 else tensor


class HopStart(nn.Module):
    """What a hop's networks read first."""

    def __init__(self, mask: Tensor, dtype: torch.dtype, branches: int) -> None:
        """
        Args:
            mask: [s, s], the network's mask channel.
        """
        super().__init__()
        self._mask = mask
        self._dtype = dtype
        self._branches = branches

    def forward(
        self, mel: Tensor, noise: Tensor, masked: Tensor, reference: Tensor
    ) -> tuple[Tensor, ...]:
        latents = noise[:, :1].expand_as(masked).contiguous()
        sample = self._sample(latents, masked, reference)
        return mel.to(self._dtype), latents, sample

    def _sample(self, noisy: Tensor, masked: Tensor, reference: Tensor) -> Tensor:
        mask = self._mask.expand(*masked.shape[:2], 1, -1, -1).to(self._dtype)
        parts = [noisy.to(self._dtype), mask, masked.to(self._dtype), reference.to(self._dtype)]
        return doubled(torch.cat(parts, dim=2).transpose(1, 2), self._branches)


class PinnedHopStart(HopStart):
    """The same with the frames before, as noisy as the first step wants them."""

    def forward(  # type: ignore[override]
        self,
        mel: Tensor,
        noise: Tensor,
        masked: Tensor,
        reference: Tensor,
        past_latents: Tensor,
        past_masked: Tensor,
        past_reference: Tensor,
        pin: Tensor,
    ) -> tuple[Tensor, ...]:
        latents = noise[:, :1].expand_as(masked).contiguous()
        pinned = weighted(pin, [past_latents, *noises_in(noise)])
        noisy = torch.cat([pinned, latents], dim=1)
        window_masked = torch.cat([past_masked, masked.to(self._dtype)], dim=1)
        window_reference = torch.cat([past_reference, reference.to(self._dtype)], dim=1)
        sample = self._sample(noisy, window_masked, window_reference)
        return mel.to(self._dtype), latents, sample, window_masked, window_reference


class HopAudio(nn.Module):
    """The sound of all frames that the U-Net sees; silence first where steps are guided."""

    def __init__(self, branches: int) -> None:
        super().__init__()
        self._branches = branches

    def forward(self, tokens: Tensor, past_tokens: Tensor | None = None) -> Tensor:
        spoken = tokens if past_tokens is None else torch.cat([past_tokens, tokens], dim=1)
        if self._branches == 1:
            return spoken
        return torch.stack([torch.zeros_like(spoken), spoken], dim=1)


class HopStep(nn.Module):
    """One step of the sampler, and what its reader wants of it."""

    def __init__(self, channels: int, dtype: torch.dtype, branches: int, hop: int) -> None:
        """
        Args:
            channels: C, of the latents; the network's outputs after these are warps.
            hop: h, the newest frames, which alone are stepped.
        """
        super().__init__()
        self._channels = channels
        self._dtype = dtype
        self._branches = branches
        self._hop = hop

    def forward(
        self, latents: Tensor, out: Tensor, noise: Tensor, mix: Tensor
    ) -> tuple[Tensor, ...]:
        following, warp = self._step(latents, out, noise, mix)
        return self._made(following, following, warp)

    def _step(
        self, latents: Tensor, out: Tensor, noise: Tensor, mix: Tensor
    ) -> tuple[Tensor, Tensor]:
        """The latents that follow, and the warp of the branch with sound."""
        branches = list(out.unbind(1)) if self._branches > 1 else [out]
        frames = [branch.transpose(1, 2)[:, -self._hop :].float() for branch in branches]
        predictions = [frame[:, :, : self._channels] for frame in frames]
        following = weighted(mix, [latents, *predictions, *noises_in(noise)])
        return following, frames[-1][:, :, self._channels :]

    def _made(self, noisy: Tensor, following: Tensor, warp: Tensor) -> tuple[Tensor, ...]:
        again = doubled(noisy.to(self._dtype).transpose(1, 2), self._branches)
        made = (following, again, following.to(self._dtype))
        return made if warp.shape[2] == 0 else (*made, warp)


class PinnedHopStep(HopStep):
    """The same with the frames before, as noisy as the next step wants them."""

    def forward(  # type: ignore[override]
        self,
        latents: Tensor,
        out: Tensor,
        noise: Tensor,
        mix: Tensor,
        past_latents: Tensor,
        pin: Tensor,
    ) -> tuple[Tensor, ...]:
        following, warp = self._step(latents, out, noise, mix)
        pinned = weighted(pin, [past_latents, *noises_in(noise)])
        made = self._made(torch.cat([pinned, following], dim=1), following, warp)
        window = torch.cat([past_latents, following], dim=1)
        return (*made[:3], window, *made[3:])


class HopFinish(nn.Module):
    """Pictures as people see them."""

    def forward(self, image: Tensor) -> Tensor:
        levels = (image.float() * 127.5 + 128.0).clamp(0.0, 255.0)
        return levels.permute(0, 2, 3, 1).to(torch.uint8)


class CropStart(nn.Module):
    """Pictures as the codec reads them."""

    def __init__(self, keep: Tensor, dtype: torch.dtype) -> None:
        """
        Args:
            keep: [R, R], 0 where a crop is greyed out.
        """
        super().__init__()
        self._keep = keep
        self._dtype = dtype

    def forward(self, crops: Tensor, grey: Tensor) -> Tensor:
        image = crops.float().permute(0, 3, 1, 2) * (1.0 / 127.5) - 1.0
        kept = 1.0 - grey[:, :, None, None] * (1.0 - self._keep)
        return (image * kept).to(self._dtype)


class CropFinish(nn.Module):
    """The codec's latents in f32."""

    def forward(self, latents: Tensor) -> Tensor:
        # TensorRT wants one node at least, and f32 as f32 would be none.
        return latents.float() * 1.0
