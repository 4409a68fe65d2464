"""Streams the model in torch and looks at what its layers read: the ranges of 8-bit inputs.

    calibrated = calibrate(request, DEFAULT_RECIPE)

Avatars speak as they are served: the served timesteps, inputs that the model made for itself, rings
that fill from empty. Every layer's input is counted in every call of the network that is exported.
The calls after the last that is counted are kept: what they read is what the export is checked on.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from engine.avatar import prepare_avatar
from engine.backends.base import HopInput
from engine.backends.torch_backend import TorchBackend
from engine.denoise.model import TorchModel
from engine.spec import ModelSpec
from export.f8.histogram import MagnitudeHistogram
from export.f8.recipe import Quantisation, Recipe, layer_kinds
from export.f8.sources import avatar_folders, data_digest, short_avatars, spoken_mels
from export.networks import Network
from export.request import ExportRequest
from export.targets import Report, silent

CHECKED_HOPS = 1  # of each session, after those that are counted
POSITIONS_RANK = 2  # the only tables that a layer reads beside activations are of positions


@dataclass(frozen=True, slots=True)
class Calibrated:
    """What a stream showed.

    Attributes:
        quantisation: ranges for the recipe; nothing is kept back yet.
        rows: served inputs of the network in its order, a session and timestep each, batch 1, f32.
    """

    quantisation: Quantisation
    rows: list[list[Tensor]]


class _Watcher:
    """Stands before the network: counts what layers read, keeps what the network reads."""

    def __init__(self, request: ExportRequest) -> None:
        self._with_rings = request.context_frames > 0
        self.histograms: dict[str, MagnitudeHistogram] = {}
        self.rows: list[list[Tensor]] = []
        self.checking = False
        self._counting = False

    def wrap(self, forward: Callable[..., Any]) -> Callable[..., Any]:
        """The entry point of the network, watched if it is the one that is exported."""
        wanted = "forward_hop" if self._with_rings else "forward_window"
        if getattr(forward, "__name__", "") != wanted:
            return forward

        def watched(*inputs: Any, **options: Any) -> Any:
            if self.checking:
                self.rows += _rows(inputs, with_rings=self._with_rings)
            self._counting = not self.checking
            try:
                return forward(*inputs, **options)
            finally:
                self._counting = False

        return watched

    @contextmanager
    def on(self, unet: nn.Module, recipe: Recipe) -> Iterator[None]:
        """Counts the inputs of the recipe's layers while it lasts."""
        self.histograms = {name: MagnitudeHistogram() for name in layer_kinds(unet, recipe)}

        def counter(name: str) -> Callable[..., None]:
            def count(_layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
                if self._counting and inputs[0].dim() > POSITIONS_RANK:
                    self.histograms[name].add(inputs[0])

            return count

        handles = [
            unet.get_submodule(name).register_forward_pre_hook(counter(name))
            for name in self.histograms
        ]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()


class _WatchedBackend(TorchBackend):
    """The backend with a watcher around the network's entry points."""

    def __init__(self, model: TorchModel, spec: ModelSpec, watcher: _Watcher) -> None:
        super().__init__(model, spec, graphs=False, sessions=1)
        self._wrap = watcher.wrap


@torch.inference_mode()
def calibrate(request: ExportRequest, recipe: Recipe, report: Report = silent) -> Calibrated:
    """Ranges for the recipe's layers, and served inputs to check the export on.

    Raises:
        ModelError: the model's weights cannot be read or do not fit.
    """
    spec = served_spec(request)
    report(f"{request.name}: torch's weights for calibration", 0, 0)
    model = TorchModel.load(request.model_dir, torch.device("cpu"), "f32")
    watcher = _Watcher(request)
    backend = _WatchedBackend(model, spec, watcher)
    folders = avatar_folders(recipe.sessions)
    hops = recipe.hops + CHECKED_HOPS
    frames = hops * spec.hop_frames
    mels = spoken_mels(spec.audio, len(folders), frames)
    with watcher.on(model.unet, recipe):
        for session, avatar in enumerate(short_avatars(folders, frames)):
            face = prepare_avatar(avatar, backend)
            state = backend.new_session(hop_frames=spec.hop_frames, seed=session)
            for hop in range(hops):
                done, total = session * hops + hop, len(folders) * hops
                report(f"{request.name}: calibrating on {avatar.name}", done, total)
                watcher.checking = hop >= recipe.hops
                own = np.arange(hop * spec.hop_frames, (hop + 1) * spec.hop_frames)
                shown = own % len(avatar.pictures)
                item = HopInput(
                    state, mels[session][own], face.masked_latents[shown], face.ref_latents[shown]
                )
                backend.denoise([item])
    ranges = {name: seen.range(recipe) for name, seen in watcher.histograms.items()}
    return Calibrated(Quantisation(recipe, ranges, data_digest(folders)), watcher.rows)


def served_spec(request: ExportRequest) -> ModelSpec:
    """How the model is streamed so that the network of the request runs.

    A network that reads rings is run by the modes carry and causal, one that reads whole windows
    by the others, or by any mode whose hop is a whole window.
    """
    spec = request.spec
    if request.context_frames:
        carry = spec.carry if spec.carry in ("carry", "causal") else "carry"
        return dataclasses.replace(spec, carry=carry, hop_frames=request.hop_frames, refresh_hops=0)
    if spec.carry == "pinned":
        return spec
    return dataclasses.replace(spec, hop_frames=request.hop_frames)


def served_inputs(network: Network, rows: list[list[Tensor]], batch: int) -> list[Tensor]:
    """Inputs of one batch in the network's dtypes: the last rows, round and round."""
    from export.networks import TORCH_DTYPES

    chosen = [rows[-1 - index % len(rows)] for index in range(batch)]
    return [
        torch.cat(parts).to(TORCH_DTYPES[tensor.dtype])
        for tensor, parts in zip(network.inputs, zip(*chosen, strict=True), strict=True)
    ]


def _rows(inputs: tuple[Any, ...], *, with_rings: bool) -> list[list[Tensor]]:
    """One call's inputs in the exported network's order, a session each."""
    sample, timestep, audio, valid = inputs[:4]
    if with_rings:
        rings, places = inputs[4:6]
        ordered = [sample, timestep, audio, valid, places, *rings]
    else:
        present = sample.new_ones(len(sample), sample.shape[2]) if valid is None else valid
        ordered = [sample, timestep, audio, present]
    return [[tensor[row : row + 1].clone() for tensor in ordered] for row in range(len(sample))]
