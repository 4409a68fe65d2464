"""Which layers of a U-Net multiply in 8-bit floats, and what was found out for their scales.

    layers = layer_kinds(unet, DEFAULT_RECIPE)

FLOAT8E4M3FN (sign, 4 bits of exponent, 3 of mantissa, up to 448, no infinity), by explicit
QuantizeLinear and DequantizeLinear nodes, which TensorRT fuses into the products between them: one
scale for a layer's input, calibrated; one for each output channel of its weights. Everything else
stays in f16: the first and the last convolution, norms, the time embedding, the keys and values of
the audio, and the products of attention.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, get_args

from torch import nn

Kind = Literal["attention", "feed_forward", "temporal", "convolution", "pointwise"]
Method = Literal["largest", "percentile", "mse"]
KINDS: tuple[Kind, ...] = get_args(Kind)
METHODS: tuple[Method, ...] = get_args(Method)

KEPT = re.compile(
    r"conv_in|conv_out|time_embedding\..*|.*\.time_emb_proj|audio_film\..*|.*\.attn2\.to_[kv]"
)
# TensorRT's products of 8 bits read 16 numbers at a time; narrower layers find no kernel.
ALIGNMENT = 16


@dataclass(frozen=True, slots=True)
class Recipe:
    """How a network is taken to 8 bits.

    Attributes:
        kinds: of layers that multiply in 8 bits.
        method: how a range is chosen from what an input was seen to hold: its largest value,
            a percentile of all values, or what rounds with the least squared error.
        percentile: of that method.
        sessions, hops: of the streams that it is calibrated on.
    """

    kinds: tuple[Kind, ...] = KINDS
    method: Method = "largest"
    percentile: float = 99.99
    sessions: int = 5
    hops: int = 12


DEFAULT_RECIPE = Recipe()


@dataclass(frozen=True, slots=True)
class Quantisation:
    """A recipe with the numbers that calibration found for one network.

    Attributes:
        ranges: layer -> the largest magnitude that its input is to hold.
        data_sha256: of the pictures and the sound that it was calibrated on.
        kept: layer -> the relative error that it alone gives; left in f16 because of it.
    """

    recipe: Recipe
    ranges: Mapping[str, float]
    data_sha256: str
    kept: Mapping[str, float] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)

    def digest(self) -> str:
        """SHA-256 of all of it, in hexadecimal."""
        return hashlib.sha256(json.dumps(self.to_dict(), sort_keys=True).encode()).hexdigest()


def kind_of_layer(name: str, layer: nn.Module) -> Kind | None:
    """The kind of a U-Net's layer; None: it stays in f16 under every recipe."""
    if not isinstance(layer, (nn.Linear, nn.Conv2d)) or KEPT.fullmatch(name):
        return None
    if any(width % ALIGNMENT for width in layer.weight.shape[:2]):
        return None
    if ".motion_modules." in name:
        return "temporal"
    if ".ff." in name:
        return "feed_forward"
    if isinstance(layer, nn.Linear):
        return "attention"
    return "pointwise" if layer.kernel_size == (1, 1) else "convolution"


def layer_kinds(unet: nn.Module, recipe: Recipe) -> dict[str, Kind]:
    """Name -> kind of every layer that the recipe takes to 8 bits, in the network's order."""
    kinds = {name: kind_of_layer(name, layer) for name, layer in unet.named_modules()}
    return {name: kind for name, kind in kinds.items() if kind in recipe.kinds and kind is not None}
