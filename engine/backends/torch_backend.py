"""The reference backend: torch, all sessions of a hop in one batch.

Every other backend is held against it. Rings, noise and reference latents stay
on the device; per hop only log-mels and masked latents go in and pictures out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from engine.backends.base import HopInput, SessionState
from engine.backends.inputs import check_batch, check_crops, check_new_session, session_noise
from engine.checkpoints import load_audio_encoder, load_codec, load_unet
from engine.errors import BackendError, StreamError
from engine.face.mask import mask_image, mask_latents
from engine.media import F32, U8
from engine.sampler import Sampler
from engine.spec import ModelSpec

DTYPES = {"f32": torch.float32, "bf16": torch.bfloat16}


@dataclass(slots=True, eq=False)
class TorchSession:
    """One session's memory.

    Attributes:
        noise: [C, 1, s, s], the session's fixed noise.
        rings: per served timestep, per ring, [2, c, ...].
        valid: [c] 1.0 where the rings' slot is filled.
    """

    owner: TorchBackend
    hop: int
    noise: Tensor
    rings: list[list[Tensor]]
    valid: Tensor

    def reset(self) -> None:
        """Forgets the carried context."""
        self.valid = torch.zeros_like(self.valid)
        self.rings = [[torch.zeros_like(ring) for ring in rings] for rings in self.rings]

    def push(self, new: Sequence[Sequence[Tensor]]) -> None:
        """Drops the oldest frames of every ring and appends the new ones.

        Args:
            new: per served timestep, per ring, [2, h, ...].
        """
        context = self.valid.shape[0]
        if context == 0:
            return
        self.rings = [
            [
                torch.cat([ring, own], dim=1)[:, -context:]
                for ring, own in zip(rings, owns, strict=True)
            ]
            for rings, owns in zip(self.rings, new, strict=True)
        ]
        filled = torch.cat([self.valid, self.valid.new_ones(self.hop)])
        self.valid = filled[-context:]


class TorchBackend:
    """Runs causal and carried models; on a CPU in f32, on CUDA in bf16 unless told otherwise."""

    def __init__(self, model_dir: Path, device: torch.device, precision: str | None = None) -> None:
        """Loads the model's weights.

        Raises:
            ModelError: weights are missing or do not fit.
            BackendError: the model denoises overlapping windows.
        """
        spec = ModelSpec.read(model_dir)
        if spec.carry not in ("causal", "carry"):
            raise BackendError(
                f"{spec.name}: expected a model that carries its context, "
                f"got the mode {spec.carry!r}"
            )
        chosen = precision or ("bf16" if device.type == "cuda" else "f32")
        self.spec = spec
        self.name = f"torch-{device.type}-{chosen}"
        self._device = device
        self._dtype = DTYPES[chosen]
        self.unet = load_unet(model_dir, spec).eval().to(device, self._dtype)
        self.codec = load_codec(model_dir, spec).eval().to(device, self._dtype)
        self.audio_encoder = load_audio_encoder(model_dir, spec).eval().to(device, self._dtype)

        self._sampler = Sampler(spec)
        self._keep = torch.from_numpy(mask_image(spec)).to(device)
        self._mask_latents = self._tensor(mask_latents(spec))

    def _tensor(self, array: F32) -> Tensor:
        return torch.from_numpy(array).to(self._device, self._dtype)

    @torch.inference_mode()
    def encode(self, crops: U8, *, masked: bool) -> F32:
        """Codec latents [n, C, s, s] of face crops [n, R, R, 3]."""
        check_crops(self.spec, crops)
        image = torch.from_numpy(crops).to(self._device).permute(0, 3, 1, 2) / 127.5 - 1.0
        if masked:
            image = image * self._keep
        latents: F32 = self.codec.encode(image.to(self._dtype)).float().cpu().numpy()
        return latents

    def new_session(self, *, hop_frames: int, seed: int) -> TorchSession:
        """Fresh state."""
        spec = self.spec
        check_new_session(spec, hop_frames)
        context = spec.window_frames - hop_frames
        shapes: list[tuple[int, ...]] = [
            *self.unet.ring_shapes(spec.latent_size),
            *((groups,) for groups in self.unet.moment_shapes()),
        ]
        empty = torch.zeros(0, device=self._device, dtype=self._dtype)
        return TorchSession(
            owner=self,
            hop=hop_frames,
            noise=self._tensor(session_noise(spec, seed))[:, None],
            rings=[
                [empty.new_zeros(2, context, *shape) for shape in shapes if context]
                for _ in spec.timesteps
            ],
            valid=empty.new_zeros(context),
        )

    @torch.inference_mode()
    def run_hop(self, batch: Sequence[HopInput]) -> list[U8]:
        """The generated crops, uint8 [h, R, R, 3] for each input."""
        if not batch:
            return []
        sessions = [self._own(item.state) for item in batch]
        hop = check_batch(self.spec, batch, [session.hop for session in sessions])
        mel = self._tensor(np.concatenate([item.mel for item in batch]))
        audio = self.audio_encoder(mel).unflatten(0, (-1, hop))
        masked = self._tensor(np.stack([item.masked_latents for item in batch])).transpose(1, 2)
        reference = self._tensor(np.stack([item.ref_latents for item in batch])).transpose(1, 2)
        latents = self._denoise(sessions, masked, reference, audio)
        images = self.codec.decode(latents.transpose(1, 2).flatten(0, 1)).float()
        pictures = (images * 127.5 + 128.0).clamp(0.0, 255.0).to(torch.uint8)
        crops: U8 = pictures.permute(0, 2, 3, 1).contiguous().cpu().numpy()
        return np.split(crops, len(batch))

    def _denoise(
        self, sessions: Sequence[TorchSession], masked: Tensor, reference: Tensor, audio: Tensor
    ) -> Tensor:
        """Clean latents [b, C, h, s, s] of face latents of that shape and audio tokens."""
        spec = self.spec
        noise = torch.stack([session.noise for session in sessions]).expand_as(masked)
        mask = self._mask_latents.expand_as(masked[:, :1])
        valid = torch.stack([session.valid for session in sessions])
        latents, pushed = noise, []
        for index, timestep in enumerate(spec.timesteps):
            rings = [
                torch.stack(own)
                for own in zip(*(session.rings[index] for session in sessions), strict=True)
            ]
            prediction, new = self.unet.forward_hop(
                torch.cat([latents, mask, masked, reference], dim=1),
                torch.full((len(sessions),), float(timestep), device=self._device),
                audio,
                valid,
                rings,
            )
            latents = self._sampler.step(index, latents, prediction)
            pushed.append(new)
        for place, session in enumerate(sessions):
            session.push([[own[place] for own in new] for new in pushed])
        return latents

    def _own(self, state: SessionState) -> TorchSession:
        if not isinstance(state, TorchSession) or state.owner is not self:
            raise StreamError(f"expected a session of this {self.name} backend")
        return state


def open_model(model_dir: Path, precision: str | None = None) -> TorchBackend:
    """The torch backend for a model folder, on CUDA where there is a device.

    Raises:
        ModelError: weights are missing or do not fit.
        BackendError: the model denoises overlapping windows.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return TorchBackend(model_dir, device, precision)
