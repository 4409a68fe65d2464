"""A graph of bf16 as the same graph of f16.

The two have the same nodes; only the types in inputs, outputs, casts and constants differ. Numbers
in the graph have been rounded to bf16 by then: they must be short ones, halves and powers of two.
"""

from __future__ import annotations

from onnx import ModelProto, TensorProto, numpy_helper

FROM, TO = TensorProto.BFLOAT16, TensorProto.FLOAT16


def bf16_to_f16(model: ModelProto) -> None:
    """Changes every bf16 in the graph to f16, in place."""
    graph = model.graph
    for item in (*graph.input, *graph.output):
        if item.type.tensor_type.elem_type == FROM:
            item.type.tensor_type.elem_type = TO
    for tensor in graph.initializer:
        _retype(tensor)
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.name == "to" and attribute.i == FROM:
                attribute.i = TO
            elif attribute.HasField("t"):
                _retype(attribute.t)


def _retype(tensor: TensorProto) -> None:
    if tensor.data_type == FROM:
        values = numpy_helper.to_array(tensor).astype("float32").astype("float16")
        tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
