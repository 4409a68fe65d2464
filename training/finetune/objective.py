"""One step's losses: noise is predicted, the clean clip estimated from it, decoded and judged.

At every timestep the U-Net's one-step estimate of the clean latents goes through the codec's
decoder, so that losses in pixels reach the U-Net (LatentSync, 2412.09262, section 3).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from engine.backends.inputs import to_network
from engine.face.mask import mask_image, mask_latents
from engine.media import U8
from engine.models.attention import SpatialTransformer
from engine.models.kl_vae import ResnetBlock as CodecResnet
from engine.models.kl_vae import SpatialAttention, Upsampler
from engine.models.resnet import ResnetBlock
from engine.models.syncnet import SyncAttention, SyncResnet
from engine.models.temporal import MotionModule
from engine.sampler import add_noise, alphas_cumprod, predict_x0
from training.finetune.batches import Batch
from training.finetune.configs import FinetuneConfig
from training.finetune.networks import Networks
from training.finetune.noise import mixed_noise
from training.losses.videomae import VideoMaeBlock
from training.recompute import recompute_in_backward

UNET_LAYERS = (ResnetBlock, SpatialTransformer, MotionModule)
CODEC_LAYERS = (CodecResnet, SpatialAttention, Upsampler)
SYNC_LAYERS = (SyncResnet, SyncAttention)

Predict = Callable[[Tensor, Tensor, Tensor], Tensor]


@dataclass(frozen=True, slots=True)
class StepInputs:
    """A batch and what was drawn for it, on the device.

    Attributes:
        truth: [b, f, 3, R, R] in [-1, 1], in the frozen networks' dtype.
        reference: of that shape.
        mel: [b, f, n_mels, mel_frames].
        sync_mel: [b, 1, 80, 52].
        noise: float32 [b, C, f, s, s].
        timesteps: int64 [b].
    """

    truth: Tensor
    reference: Tensor
    mel: Tensor
    sync_mel: Tensor
    noise: Tensor
    timesteps: Tensor


@dataclass(frozen=True, slots=True)
class Losses:
    """Of one batch.

    Attributes:
        total: to be minimised.
        parts: each loss that is on, by the name of its weight, without it.
    """

    total: Tensor
    parts: dict[str, Tensor]


class Objective:
    """What a step computes, given how the U-Net is called."""

    def __init__(
        self,
        config: FinetuneConfig,
        networks: Networks,
        device: torch.device,
        *,
        recompute: bool = True,
    ) -> None:
        """An objective.

        Args:
            recompute: keep the inputs of layers only and compute them twice, in the U-Net, the
                codec, SyncNet and VideoMAE.
        """
        self.config = config
        self.networks = networks
        self.device = device
        spec = networks.spec
        self._alphas = torch.from_numpy(alphas_cumprod().copy()).to(device)
        self._keep = torch.from_numpy(mask_image(spec)).to(device, networks.dtype)
        self._mask = torch.from_numpy(mask_latents(spec)).to(device)
        if not recompute:
            return
        recompute_in_backward(networks.unet, UNET_LAYERS)
        recompute_in_backward(networks.codec, CODEC_LAYERS)
        losses = networks.losses
        if losses.sync is not None:
            recompute_in_backward(losses.sync, SYNC_LAYERS)
        if losses.temporal is not None:
            recompute_in_backward(losses.temporal, (VideoMaeBlock,))

    def inputs(self, batch: Batch, generator: torch.Generator) -> StepInputs:
        """A batch on the device, with its noise and timesteps drawn from `generator`."""
        spec, dtype = self.networks.spec, self.networks.dtype
        size, frames = batch.truth.shape[:2]
        shape = (size, spec.codec.latent_channels, frames, spec.latent_size, spec.latent_size)

        def pictures(levels: U8) -> Tensor:
            flat = to_network(levels.reshape(-1, *levels.shape[2:]))
            return _clips(torch.from_numpy(flat).to(self.device, dtype), size, frames)

        return StepInputs(
            truth=pictures(batch.truth),
            reference=pictures(batch.reference),
            mel=torch.from_numpy(batch.mel).to(self.device, dtype),
            sync_mel=torch.from_numpy(batch.sync_mel).to(self.device),
            noise=mixed_noise(shape, self.config.mixed_noise_alpha, generator).to(self.device),
            timesteps=torch.randint(len(self._alphas), (size,), generator=generator).to(
                self.device
            ),
        )

    def losses(self, predict: Predict, inputs: StepInputs) -> Losses:
        """The losses of a batch.

        Args:
            predict: the U-Net's forward, under whatever precision and wrapping the run has.
        """
        clean, masked, reference, audio = self._conditions(inputs)
        alpha = self._alphas[inputs.timesteps][:, None, None, None, None]
        noisy = add_noise(clean, inputs.noise, alpha)
        mask = self._mask.expand(len(noisy), 1, *noisy.shape[2:])
        sample = torch.cat([noisy, mask, masked, reference], dim=1)
        predicted = predict(sample, inputs.timesteps, audio).float()
        weights = self.config.losses
        parts: dict[str, Tensor] = {}
        if weights.recon:
            parts["recon"] = F.mse_loss(predicted, inputs.noise)
        if weights.in_pixels:
            latents = predict_x0(noisy, predicted, alpha, "epsilon")
            parts |= self._pixel_losses(self._decode(latents), inputs)
        total = torch.stack([getattr(weights, name) * loss for name, loss in parts.items()]).sum()
        return Losses(total, {name: loss.detach() for name, loss in parts.items()})

    @torch.no_grad()
    def _conditions(self, inputs: StepInputs) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Latents [b, C, f, s, s] of truth, masked truth and reference; audio tokens."""
        size, frames = inputs.truth.shape[:2]
        codec = self.networks.codec
        pictures = (inputs.truth, inputs.truth * self._keep, inputs.reference)
        latents = [
            _clips(codec.encode(part.flatten(0, 1)).float(), size, frames).transpose(1, 2)
            for part in pictures
        ]
        tokens = self.networks.audio_encoder(inputs.mel.flatten(0, 1)).float()
        return latents[0], latents[1], latents[2], _clips(tokens, size, frames)

    def _decode(self, latents: Tensor) -> Tensor:
        """[b, f, 3, R, R] in the frozen networks' dtype, from latents [b, C, f, s, s]."""
        flat = latents.transpose(1, 2).flatten(0, 1).to(self.networks.dtype)
        return _clips(self.networks.codec.decode(flat), latents.shape[0], latents.shape[2])

    def _pixel_losses(self, made: Tensor, inputs: StepInputs) -> dict[str, Tensor]:
        losses = self.networks.losses
        parts: dict[str, Tensor] = {}
        if losses.perceptual is not None:
            lower = made.shape[-2] // 2  # where the mouth is
            parts["perceptual"] = losses.perceptual(
                made[..., lower:, :].flatten(0, 1).float(),
                inputs.truth[..., lower:, :].flatten(0, 1).float(),
            )
        if losses.sync is not None:
            parts["sync"] = losses.sync(made, inputs.sync_mel)
        if losses.temporal is not None:
            parts["temporal"] = losses.temporal(made, inputs.truth)
        return parts


def _clips(flat: Tensor, size: int, frames: int) -> Tensor:
    """[b, f, ...] of [b * f, ...]."""
    return flat.reshape(size, frames, *flat.shape[1:])
