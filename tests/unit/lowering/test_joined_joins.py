"""Joins of a value with itself: regions end before their code doubles too often."""

import numpy as np
import pytest
from onnx import TensorProto, helper

import torsh_fx


@pytest.mark.parametrize("extent", ["n", 3])
def test_a_tower_of_joins(extent):
    """x, [x x], [x x x x], ...: 14 joins are 16,384 pieces, and one region would test for each."""
    nodes = [
        helper.make_node("Concat", [f"h{n}", f"h{n}"], [f"h{n + 1}"], axis=0) for n in range(14)
    ]
    x = helper.make_tensor_value_info("h0", TensorProto.FLOAT, [extent])
    y = helper.make_tensor_value_info("h14", TensorProto.FLOAT, None)
    graph = helper.make_graph(nodes, "g", [x], [y])
    opsets = [helper.make_opsetid("", 21)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=10)
    f = torsh_fx.compile(model, cache=False)
    values = np.array([1.5, -2, 3], np.float32)
    assert np.array_equal(f(values), np.tile(values, 1 << 14))
    code = sum(len(str(kernel)) for kernel in f.optimised.walk() if kernel.name == "torsh.fused")
    assert code < 100_000
    assert sum(op.name == "torsh.fused" for op in f.optimised.walk()) == 2
