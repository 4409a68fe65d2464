"""Smaller graphs with the same numbers.

The tracing exporter writes the sums of shapes anew at every use, under names
as long as the module path: a megabyte of them for a small U-Net. Nodes that
compute the same from the same inputs become one, and intermediate values get
short names. Weights, inputs and outputs keep theirs, and so do the nodes that
do the work, which profilers list.
"""

from __future__ import annotations

from onnx import ModelProto, NodeProto

WORK = {"Conv", "ConvTranspose", "Gemm", "MatMul", "InstanceNormalization", "LayerNormalization"}
WORK |= {"Softmax", "Resize", "Gelu"}


def _meaning(node: NodeProto) -> tuple[object, ...]:
    attributes = sorted(item.SerializeToString() for item in node.attribute)
    return (node.op_type, node.domain, tuple(node.input), tuple(attributes), len(node.output))


def compact(model: ModelProto) -> None:
    """Merges equal nodes of a graph and shortens its names, in place."""
    graph = model.graph
    fixed = {item.name for item in (*graph.input, *graph.output, *graph.initializer)}
    outputs = {item.name for item in graph.output}
    renamed: dict[str, str] = {}
    first: dict[tuple[object, ...], NodeProto] = {}
    kept: list[NodeProto] = []
    for node in graph.node:
        for index, name in enumerate(node.input):
            node.input[index] = renamed.get(name, name)
        meaning = _meaning(node)
        twin = first.get(meaning)
        if twin is not None and not outputs & set(node.output):
            renamed.update(zip(node.output, twin.output, strict=True))
            continue
        first.setdefault(meaning, node)
        for index, name in enumerate(node.output):
            if name and name not in fixed:
                renamed[name] = f"v{len(renamed)}"
                node.output[index] = renamed[name]
        if node.op_type not in WORK:
            node.ClearField("name")
        node.ClearField("doc_string")
        kept.append(node)
    del graph.node[:], graph.value_info[:]
    graph.node.extend(kept)
