"""Puts QuantizeLinear and DequantizeLinear around the products of a traced graph.

    axes = quantise_graph(model, prefix, quantisation)

    input (f16) -> QuantizeLinear (one scale) -> DequantizeLinear -> product <- DequantizeLinear
                                                         weights (8 bits, a scale an output channel)

TensorRT fuses the three into a product of 8-bit floats (its manual, "Working with Quantized
Types"). It looks for the weights' DequantizeLinear right before the product, so a linear layer's
weights are stored transposed and the graph's Transpose goes. Tables of positions go through the
same weights and are not rounded: they are constants, which compilers multiply beforehand.
"""

from __future__ import annotations

from collections import defaultdict

import numpy as np
import torch
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from engine.errors import ModelError
from export.f8.numbers import scale_of
from export.f8.recipe import Quantisation

ZERO = "f8/zero"  # QuantizeLinear goes by its type
SCALE_SUFFIX = "/scale"
# The axis of a stored weight that its output channels lie on, by the product that reads it.
OUTPUT_AXES = {"Conv": 0, "MatMul": 1}


def quantise_graph(model: ModelProto, prefix: str, quantisation: Quantisation) -> dict[str, int]:
    """Weight's name -> the axis of its output channels, of the weights now read in 8 bits.

    Args:
        model: of f16, whose weights no node makes; changed in place. For each of these weights it
            reads NAME in 8 bits, with its output channels on that axis, and NAME/scale in f16.
        prefix: what weights' names have before a layer's.

    Raises:
        ModelError: a layer of the recipe has no product in the graph.
    """
    return _Quantiser(model).run(prefix, quantisation)


class _Quantiser:
    def __init__(self, model: ModelProto) -> None:
        self._graph = model.graph
        self._nodes = list(model.graph.node)
        self._readers: dict[str, list[NodeProto]] = defaultdict(list)
        for node in self._nodes:
            for name in dict.fromkeys(node.input):
                self._readers[name].append(node)
        self._served = self._tensors_of_inputs()
        self._widened: list[NodeProto] = []
        self._dropped: set[str] = set()  # tensors that nobody reads any more
        self._rounding: dict[str, list[NodeProto]] = defaultdict(list)  # after which tensor
        self._rounded: dict[tuple[str, float], str] = {}

    def run(self, prefix: str, quantisation: Quantisation) -> dict[str, int]:
        axes = {
            f"{prefix}{layer}.weight": self._quantise(layer, f"{prefix}{layer}.weight", largest)
            for layer, largest in quantisation.ranges.items()
            if layer not in quantisation.kept
        }
        zero = helper.make_tensor(ZERO, TensorProto.FLOAT8E4M3FN, (), b"\0", raw=True)
        self._graph.initializer.append(zero)
        nodes = [*self._widened]
        for item in self._graph.input:
            nodes += self._rounding[item.name]
        for node in self._nodes:
            if self._dropped.isdisjoint(node.output):
                nodes.append(node)
            for name in node.output:
                nodes += self._rounding[name]
        copies = [NodeProto.FromString(node.SerializeToString()) for node in nodes]
        del self._graph.node[:]
        self._graph.node.extend(copies)
        return axes

    def _tensors_of_inputs(self) -> set[str]:
        """Names of all tensors whose numbers depend on what the network is given."""
        served = {item.name for item in self._graph.input}
        for node in self._nodes:
            if node.op_type != "Shape" and not served.isdisjoint(node.input):
                served.update(node.output)
        return served

    def _quantise(self, layer: str, weight: str, largest: float) -> int:
        """Quantises a layer's products; the axis of its weight's output channels."""
        readers = self._readers[weight]
        turned = [node.output[0] for node in readers if node.op_type == "Transpose"]
        if turned:
            self._dropped.update(turned)
            readers = [reader for name in turned for reader in self._readers[name]]
        kinds = {node.op_type for node in readers}
        if len(kinds) != 1 or not kinds <= OUTPUT_AXES.keys():
            raise ModelError(f"expected one kind of product with {weight}, found {sorted(kinds)}")
        axis = OUTPUT_AXES[kinds.pop()]
        wide = f"{weight}/wide"
        stored = [weight, weight + SCALE_SUFFIX]
        self._widened.append(
            helper.make_node("DequantizeLinear", stored, [wide], f"{layer}/weight", axis=axis)
        )
        for node in readers:
            node.input[1] = wide
            if node.input[0] in self._served:
                node.input[0] = self._through_f8(layer, node.input[0], largest)
        return axis

    def _through_f8(self, layer: str, name: str, largest: float) -> str:
        """A tensor by way of 8 bits: one pair of nodes for all layers that read it."""
        key = (name, largest)
        if key not in self._rounded:
            scale = scale_of(torch.tensor(largest)).numpy()
            constant = numpy_helper.from_array(np.asarray(scale), f"{layer}/input/scale")
            self._graph.initializer.append(constant)
            narrow, wide = f"{layer}/input/f8", f"{layer}/input"
            self._rounding[name] += [
                helper.make_node("QuantizeLinear", [name, constant.name, ZERO], [narrow], narrow),
                helper.make_node("DequantizeLinear", [narrow, constant.name], [wide], wide),
            ]
            self._rounded[key] = wide
        return self._rounded[key]
