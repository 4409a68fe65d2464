"""What 8 bits cost, layer by layer, in torch: and which layers are too dear.

    kept = layers_to_keep(network, calibrated, tolerances)

Torch computes in f32 what the exported graph computes: a layer's input and weights are rounded to
8-bit floats and back. No weight is held twice: it is rounded each time that it is read.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from engine.errors import ModelError
from export.f8.calibration import POSITIONS_RANK, Calibrated, served_inputs
from export.f8.numbers import along_outputs, scale_of, through_f8, weight_scale
from export.networks import Network
from export.targets import Report, silent

TRIED_ROWS = 2  # served inputs, each of another session
# The graph rounds to f16 as well, which is not emulated.
MARGIN = 0.9
# Everything that the network knows goes through these; what a branch rounds is added to it.
MAIN_PATH = re.compile(r".*\.(conv_shortcut|(up|down)samplers\.\d+\.conv)")


class RoundedWeight(nn.Module):
    """A weight as its 8-bit copy gives it back."""

    def forward(self, weight: Tensor) -> Tensor:
        return through_f8(weight, along_outputs(weight_scale(weight), weight))


@contextmanager
def emulated(unet: nn.Module, ranges: Mapping[str, float]) -> Iterator[None]:
    """While it lasts, these layers read 8-bit inputs and weights.

    Args:
        ranges: layer -> the largest magnitude that its input holds.
    """
    layers = {name: unet.get_submodule(name) for name in ranges}
    handles = [
        layer.register_forward_pre_hook(_rounding(ranges[name])) for name, layer in layers.items()
    ]
    for layer in layers.values():
        parametrize.register_parametrization(layer, "weight", RoundedWeight())
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
        for layer in layers.values():
            parametrize.remove_parametrizations(layer, "weight", leave_parametrized=False)


def _rounding(largest: float) -> Callable[..., tuple[Any, ...] | None]:
    """A hook that rounds what a layer reads, unless it is a table of positions."""
    scale = scale_of(torch.tensor(largest))

    def round_input(_layer: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...] | None:
        if inputs[0].dim() <= POSITIONS_RANK:
            return None
        return (through_f8(inputs[0], scale), *inputs[1:])

    return round_input


class Trial:
    """A network on served inputs, with any of its layers in 8 bits."""

    def __init__(self, network: Network, calibrated: Calibrated) -> None:
        """Runs it in f32, which the others are held against.

        Args:
            network: with its weights.
        """
        self._module = network.module
        self._unet = network.module.get_submodule(network.prefix.removesuffix("."))
        self._ranges = calibrated.quantisation.ranges
        self._names = [tensor.name for tensor in network.outputs]
        rows = min(len(calibrated.rows), TRIED_ROWS)
        self._inputs = [
            value.float() if value.is_floating_point() else value
            for value in served_inputs(network, calibrated.rows, rows)
        ]
        self._wanted = self._run()

    @torch.no_grad()
    def _run(self) -> list[Tensor]:
        made = self._module(*self._inputs)
        return [made] if isinstance(made, Tensor) else [*made]

    def errors(self, layers: Collection[str]) -> dict[str, float]:
        """Output -> relative error with these layers in 8 bits, as exports have it."""
        with emulated(self._unet, {name: self._ranges[name] for name in layers}):
            made = self._run()
        return {
            name: float((got.double() - want).norm() / want.double().norm().clamp(min=1e-12))
            for name, got, want in zip(self._names, made, self._wanted, strict=True)
        }


def layers_to_keep(
    network: Network,
    calibrated: Calibrated,
    tolerances: Callable[[str], float],
    report: Report = silent,
) -> dict[str, float]:
    """Layer -> its own share of its output's tolerance, of the layers that must stay in f16.

    None where 8 bits everywhere are near enough. Else layers are tried alone, and those that cost
    the most stay, as few as will do: of the main path where keeping all of that is enough, which
    is a few passes of a large network instead of hundreds, else of all.

    Args:
        network: with its weights.
        tolerances: of an output, by its name.

    Raises:
        ModelError: not one layer can be in 8 bits.
    """
    trial = Trial(network, calibrated)
    layers = list(calibrated.quantisation.ranges)

    def share(chosen: Collection[str]) -> float:
        return max(error / tolerances(name) for name, error in trial.errors(chosen).items())

    report("all layers in 8 bits", 0, 0)
    if share(layers) <= MARGIN:
        return {}
    branches = [layer for layer in layers if not MAIN_PATH.fullmatch(layer)]
    report("all branches in 8 bits", 0, 0)
    tried = layers if share(branches) > MARGIN else sorted(set(layers) - set(branches))
    alone: dict[str, float] = {}
    for done, layer in enumerate(tried):
        report("layers in 8 bits, one by one", done, len(tried))
        alone[layer] = share([layer])
    ranked = sorted(tried, key=alone.__getitem__, reverse=True)
    report("how many must stay in f16", 0, 0)

    def is_near_with(count: int) -> bool:
        kept = set(ranked[:count])
        return share([layer for layer in layers if layer not in kept]) <= MARGIN

    fewest = bisect_left(range(len(ranked)), True, key=is_near_with)
    if fewest == len(layers):
        raise ModelError("expected some layers to be near enough to torch in 8 bits, found none")
    return {layer: round(alone[layer], 4) for layer in ranked[:fewest]}
