"""torch, which runs every window mode and shows the latents that it decodes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from engine.backends.base import GeneratedHop, HopInput, SessionState
from engine.backends.inputs import to_pictures
from engine.backends.torch_backend import DenoisedHop, TorchBackend
from engine.denoise.model import TorchModel
from engine.errors import StreamError
from engine.media import F32, U8
from engine.spec import ModelSpec

BUCKETS = (1, 2)  # both takes in one call


class TorchOpener:
    """A model folder whose weights are loaded once."""

    def __init__(self, folder: Path, device: str | None = None) -> None:
        chosen = device or ("cuda" if torch.cuda.is_available() else "cpu")
        self.spec = ModelSpec.read(folder)
        self._model = TorchModel.load(folder, torch.device(chosen))

    def open(self, spec: ModelSpec) -> LatentsRunner:
        return LatentsRunner(self._model, spec)


@dataclass(slots=True)
class PairedSession:
    """The same session twice: one gives pictures, one latents."""

    pictures: SessionState
    latents: SessionState

    def reset(self) -> None:
        """Forgets the carried context of both."""
        self.pictures.reset()
        self.latents.reset()


class LatentsRunner:
    """Pictures and latents of every hop.

    Where the codec decodes every frame whole, the latents are decoded here: one network pass
    gives both. A codec that decodes rows carries moments from hop to hop, and its seams belong
    to the result; then the backend's own pictures are taken, and a second session beside it gives
    the latents, at twice the cost.
    """

    def __init__(self, model: TorchModel, spec: ModelSpec) -> None:
        self.spec = spec
        self._model = model
        self._backend = TorchBackend(model, spec, buckets=BUCKETS)
        self.name = self._backend.name

    def encode(self, crops: U8, *, masked: bool) -> F32:
        return self._backend.encode(crops, masked=masked)

    def new_session(self, *, hop_frames: int, seed: int) -> SessionState:
        latents = self._backend.new_session(hop_frames=hop_frames, seed=seed)
        if not self.spec.codec.decode_rows:
            return latents
        pictures = self._backend.new_session(hop_frames=hop_frames, seed=seed)
        return PairedSession(pictures, latents)

    def run(self, batch: Sequence[HopInput]) -> tuple[list[GeneratedHop], list[F32]]:
        if not self.spec.codec.decode_rows:
            found = self._backend.denoise(batch)
            return self._decoded(found), self._latents(found)
        pictures, latents = [], []
        for item in batch:
            if not isinstance(item.state, PairedSession):
                raise StreamError("expected a session of this runner")
            rest = (item.mel, item.masked_latents, item.ref_latents)
            pictures.append(HopInput(item.state.pictures, *rest))
            latents.append(HopInput(item.state.latents, *rest))
        return self._backend.run_hop(pictures), self._latents(self._backend.denoise(latents))

    def _latents(self, found: Sequence[DenoisedHop]) -> list[F32]:
        return [np.ascontiguousarray(hop.latents.swapaxes(0, 1)) for hop in found]

    @torch.inference_mode()
    def _decoded(self, found: Sequence[DenoisedHop]) -> list[GeneratedHop]:
        model = self._model
        latents = torch.from_numpy(np.concatenate(self._latents(found)))
        images: F32 = (
            model.codec.decode(latents.to(model.device, model.dtype)).float().cpu().numpy()
        )
        crops = np.split(to_pictures(images), len(found))
        return [GeneratedHop(own, hop.warps) for own, hop in zip(crops, found, strict=True)]
