"""Merging equal nodes changes no number and no visible name."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator

from export.compact import compact


def graph_with_twins() -> onnx.ModelProto:
    """y = (x + w) * (x + w), the sum written twice; z = x + w once more, as an output."""
    nodes = [
        helper.make_node("Add", ["x", "w"], ["a/very/long/name"], name="first"),
        helper.make_node("Add", ["x", "w"], ["another/long/name"], name="second"),
        helper.make_node("Mul", ["a/very/long/name", "another/long/name"], ["y"]),
        helper.make_node("Add", ["x", "w"], ["z"]),
    ]
    weight = helper.make_tensor("w", TensorProto.FLOAT, [2], [1.0, 2.0])
    infos = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [2]) for name in "xyz"]
    graph = helper.make_graph(nodes, "twins", infos[:1], infos[1:], [weight])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)])


def test_equal_nodes_become_one_and_outputs_stay() -> None:
    model = graph_with_twins()
    x = np.array([3.0, -1.0], np.float32)
    want = ReferenceEvaluator(model).run(None, {"x": x})
    compact(model)
    onnx.checker.check_model(model)
    assert [node.op_type for node in model.graph.node] == ["Add", "Mul", "Add"]
    assert [item.name for item in model.graph.output] == ["y", "z"]
    for got, expected in zip(ReferenceEvaluator(model).run(None, {"x": x}), want, strict=True):
        np.testing.assert_array_equal(got, expected)


def test_intermediate_names_become_short_and_the_weights_name_stays() -> None:
    model = graph_with_twins()
    compact(model)
    names = {name for node in model.graph.node for name in (*node.input, *node.output)}
    assert "w" in names
    assert all(len(name) < 4 for name in names)
