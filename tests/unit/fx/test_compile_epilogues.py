"""Compiled ONNX models whose products, weights and branches meet other ops in unusual ways."""

from __future__ import annotations

import numpy as np
import onnx
import onnx.helper as oh
import onnx.numpy_helper as onh
import pytest

import torsh_fx

FLOAT, DOUBLE, HALF, BOOL = (
    onnx.TensorProto.FLOAT,
    onnx.TensorProto.DOUBLE,
    onnx.TensorProto.FLOAT16,
    onnx.TensorProto.BOOL,
)


def compiled(nodes, inputs, outputs, weights=()):
    """A compiled model; `inputs` and `outputs` are (name, element type, dims)."""
    ends = [[oh.make_tensor_value_info(*one) for one in side] for side in (inputs, outputs)]
    initializers = [onh.from_array(array, name) for name, array in dict(weights).items()]
    graph = oh.make_graph(nodes, "g", *ends, initializers)
    opset = [oh.make_opsetid("", 26)]
    return torsh_fx.compile(oh.make_model(graph, opset_imports=opset, ir_version=10))


@pytest.mark.parametrize("to", [DOUBLE, HALF, BOOL, onnx.TensorProto.UINT8, onnx.TensorProto.INT64])
@pytest.mark.parametrize("packed", [False, True])
def test_a_product_that_is_cast_is_stored_in_its_own_width(to, packed):
    rng = np.random.default_rng(0)
    a, b = (rng.integers(0, 4, dims).astype(np.float32) for dims in ((2, 5, 7), (7, 19)))
    nodes = [oh.make_node("MatMul", ["a", "b"], ["c"]), oh.make_node("Cast", ["c"], ["y"], to=to)]
    inputs = [("a", FLOAT, a.shape), *([] if packed else [("b", FLOAT, b.shape)])]
    model = compiled(nodes, inputs, [("y", to, [2, 5, 19])], {"b": b} if packed else {})
    (y,) = model.run([a] if packed else [a, b])
    np.testing.assert_array_equal(y, (a @ b).astype(oh.tensor_dtype_to_np_dtype(to)))


def test_winograd_filters_that_the_graph_fills():
    x = np.random.default_rng(0).standard_normal((1, 8, 12, 12)).astype(np.float32)
    fill = onh.from_array(np.array([0.5], np.float32))
    nodes = [
        oh.make_node("ConstantOfShape", ["dims"], ["w"], value=fill),
        oh.make_node("Conv", ["x", "w"], ["y"], kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
    ]
    dims = {"dims": np.array([16, 8, 3, 3])}
    model = compiled(nodes, [("x", FLOAT, x.shape)], [("y", FLOAT, [1, 16, 12, 12])], dims)
    padded = np.pad(x.astype(np.float64), [(0, 0), (0, 0), (1, 1), (1, 1)])
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), (2, 3))
    expected = 0.5 * windows.sum((1, 4, 5))
    np.testing.assert_allclose(model.run([x])[0], np.stack([expected] * 16, 1), atol=1e-4)


@pytest.mark.parametrize("chosen", [True, False])
def test_branches_that_yield_weights(chosen):
    branches = {}
    for name, values in (("then_branch", [1, 2]), ("else_branch", [3, 4])):
        constant = oh.make_node(
            "Constant", [], [name], value=onh.from_array(np.array(values, np.float32))
        )
        result = oh.make_tensor_value_info(name, FLOAT, [2])
        branches[name] = oh.make_graph([constant], name, [], [result])
    node = oh.make_node("If", ["c"], ["y"], **branches)
    model = compiled([node], [("c", BOOL, [])], [("y", FLOAT, [2])])
    (y,) = model.run([np.array(chosen)])
    np.testing.assert_array_equal(y, [1, 2] if chosen else [3, 4])


def test_bits_of_bools():
    x = np.arange(40) % 3 == 0
    uint8 = onnx.TensorProto.UINT8
    there = oh.make_node("BitCast", ["x"], ["y"], to=uint8)
    (y,) = compiled([there], [("x", BOOL, [40])], [("y", uint8, [40])]).run([x])
    np.testing.assert_array_equal(y, x.view(np.uint8))
    back = oh.make_node("BitCast", ["y"], ["x"], to=BOOL)
    (z,) = compiled([back], [("y", uint8, [40])], [("x", BOOL, [40])]).run([y])
    np.testing.assert_array_equal(z, x)
