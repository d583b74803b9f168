"""Integer operators of ONNX run on the byte kernels, and are exact."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

import torsh_fx
from lowering.passes.schedule_integer import ScheduleIntegerPass
from lowering.runtime.machine import NEEDED_FLAGS, machine_flags
from torsh_dialect.context import Context
from torsh_dialect.evaluate import evaluate
from torsh_dialect.target import target_named
from torsh_fx.importers.onnx import import_onnx

TARGETS = [
    name
    for name in ("x86-64-v3", "x86-64-v3-vnni", "x86-64-v4-vnni", "aarch64")
    if NEEDED_FLAGS[name] <= machine_flags()
]
RNG = np.random.default_rng(5)
ELEMENTS = {
    np.dtype(np.uint8): TensorProto.UINT8,
    np.dtype(np.int8): TensorProto.INT8,
    np.dtype(np.int32): TensorProto.INT32,
    np.dtype(np.float32): TensorProto.FLOAT,
}


def whole(dtype, *shape):
    """Numbers over the whole range of an integer type, extremes among them."""
    limits = np.iinfo(dtype)
    array = RNG.integers(limits.min, limits.max + 1, shape).astype(dtype)
    array.reshape(-1)[:2] = limits.min, limits.max
    return array


def model_of(nodes, feeds, weights, output):
    """A model whose inputs are `feeds` and whose initializers are `weights`."""
    inputs = [
        helper.make_tensor_value_info(n, ELEMENTS[a.dtype], a.shape) for n, a in feeds.items()
    ]
    graph = helper.make_graph(
        nodes, "g", inputs,
        [helper.make_tensor_value_info("y", ELEMENTS[np.dtype(output)], None)],
        [numpy_helper.from_array(np.asarray(a), n) for n, a in weights.items()],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)])
    model.ir_version = 10
    return model


def scheduled_reference(model, feeds, target):
    """What the module means by the ops' references, once products are packed for the target."""
    ctx = Context(target=target_named(target))
    imported = import_onnx(model, ctx)
    ScheduleIntegerPass().apply(ctx, imported.module)
    imported.module.verify()
    return evaluate(imported.module, list(feeds.values()), imported.weights)


def run_exactly(model, feeds, op, target):
    """Compile, check that the kernel `op` is used, and compare with the reference evaluator."""
    compiled = torsh_fx.compile(model, target=target)
    assert f"torsh.{op}" in str(compiled.optimised), "no integer kernel"
    (actual,) = compiled.run(feeds)
    (expected,) = ReferenceEvaluator(model).run(None, feeds)
    assert actual.dtype == expected.dtype
    np.testing.assert_array_equal(actual, expected)
    np.testing.assert_array_equal(scheduled_reference(model, feeds, target)[0], expected)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("left", [np.uint8, np.int8])
@pytest.mark.parametrize("right", [np.uint8, np.int8])
def test_matmul_integer(target, left, right):
    node = helper.make_node("MatMulInteger", ["a", "b", "az", "bz"], ["y"])
    feeds = {"a": whole(left, 2, 7, 37), "az": np.asarray(9, left)}
    weights = {"b": whole(right, 37, 21), "bz": np.asarray(3, right)}
    model = model_of([node], feeds, weights, np.int32)
    run_exactly(model, feeds, "packed_linear_integer", target)


ACTIVATIONS = {
    "matrices": ((9, 37), (37, 21)),
    "stacks": ((2, 3, 13, 64), (2, 3, 64, 70)),
    "stack by matrix": ((2, 5, 18), (18, 130)),
    "one row": ((4, 1, 33), (4, 33, 16)),
}


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("left", [np.uint8, np.int8])
@pytest.mark.parametrize("right", [np.uint8, np.int8])
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_products_of_two_activations(target, left, right, name):
    node = helper.make_node("MatMulInteger", ["a", "b", "az", "bz"], ["y"])
    a, b = ACTIVATIONS[name]
    feeds = {"a": whole(left, *a), "b": whole(right, *b)}
    model = model_of(
        [node], feeds, {"az": np.asarray(9, left), "bz": np.asarray(3, right)}, np.int32
    )
    compiled = torsh_fx.compile(model, target=target)
    assert "int8_batched" in compiled.profile(**feeds).table(), "no integer kernel"
    (actual,) = compiled.run(feeds)
    expected = (feeds["a"].astype(np.int32) - 9) @ (feeds["b"].astype(np.int32) - 3)
    np.testing.assert_array_equal(actual, expected)
    np.testing.assert_array_equal(ReferenceEvaluator(model).run(None, feeds)[0], expected)
    np.testing.assert_array_equal(scheduled_reference(model, feeds, target)[0], expected)


@pytest.mark.parametrize(
    "zeros", [{}, {"az": np.uint8(9), "bz": np.int8(3)}], ids=["plain", "zeros"]
)
@pytest.mark.parametrize("given", ["constants", "inputs"])
def test_a_symbolic_number_of_steps(zeros, given):
    """One program of all K, on the integer kernel; zero points known or given at run time."""
    node = helper.make_node("MatMulInteger", ["a", "b", *zeros], ["y"])
    zeros = {name: np.asarray(value) for name, value in zeros.items()}
    inputs = zeros if given == "inputs" else {}
    probe = {"a": np.zeros((1, 1), np.uint8), "b": np.zeros((1, 1), np.int8), **inputs}
    model = model_of([node], probe, {} if inputs else zeros, np.int32)
    for value, names in zip(model.graph.input, ("mk", "kn"), strict=False):
        for dim, name in zip(value.type.tensor_type.shape.dim, names, strict=True):
            dim.Clear()
            dim.dim_param = name
    compiled = torsh_fx.compile(model)
    for m, k, n in ((3, 0, 5), (1, 1, 1), (7, 3, 33), (50, 64, 16), (5, 257, 70), (2, 70_000, 3)):
        a = RNG.integers(0, 256, (m, k)).astype(np.uint8)
        b = RNG.integers(-128, 128, (k, n)).astype(np.int8)
        feeds = {"a": a, "b": b, **inputs}
        filled = k == 0 and not inputs  # see test_empty_sums.py
        expected_kernel = "broadcast_to" if filled else "int8_batched"
        assert expected_kernel in compiled.profile(**feeds).table()
        left = a.astype(np.int64) - int(zeros.get("az", 0))
        expected = left @ (b.astype(np.int64) - int(zeros.get("bz", 0)))
        np.testing.assert_array_equal(compiled.run(feeds)[0], expected.astype(np.int32))


@pytest.mark.parametrize("target", TARGETS[-1:])
def test_zero_points_of_rows_and_columns_of_stacks_of_any_extent(target):
    """Symbolic stacks, rows and columns; zero points for each row and column, at run time."""
    node = helper.make_node("MatMulInteger", ["a", "b", "az", "bz"], ["y"])
    shapes = {"a": ("s", "m", 24), "b": ("s", 24, "n"), "az": ("s", "m", 1), "bz": ("s", 1, "n")}
    kinds = {"a": np.uint8, "b": np.int8, "az": np.uint8, "bz": np.int8}
    probe = {name: np.zeros([1] * 3, kind) for name, kind in kinds.items()}
    model = model_of([node], probe, {}, np.int32)
    for value in model.graph.input:
        for dim, extent in zip(value.type.tensor_type.shape.dim, shapes[value.name], strict=True):
            dim.Clear()
            setattr(dim, "dim_value" if isinstance(extent, int) else "dim_param", extent)
    compiled = torsh_fx.compile(model, target=target)
    for s, m, n in ((1, 1, 1), (2, 7, 33), (3, 50, 16), (0, 4, 4), (2, 0, 5), (1, 3, 129)):
        sizes = {"s": s, "m": m, "n": n}
        feeds = {
            name: RNG.integers(0, 100, [sizes.get(d, d) for d in dims]).astype(kinds[name])
            for name, dims in shapes.items()
        }
        if s * m:
            assert "int8_batched" in compiled.profile(**feeds).table()
        wide = {name: array.astype(np.int64) for name, array in feeds.items()}
        expected = (wide["a"] - wide["az"]) @ (wide["b"] - wide["bz"])
        np.testing.assert_array_equal(compiled.run(feeds)[0], expected)


@pytest.mark.parametrize("target", TARGETS[-1:])
@pytest.mark.parametrize("zeros", ["none", "rows", "columns"])
def test_matmul_integer_zero_points(target, zeros):
    feeds, weights = {"a": whole(np.uint8, 5, 40)}, {"b": whole(np.int8, 40, 18)}
    if zeros == "rows":
        weights["az"] = whole(np.uint8, 5)
    if zeros == "columns":
        weights["bz"] = whole(np.int8, 18)
    names = ["a", "b", "az" if "az" in weights else "", *(["bz"] if "bz" in weights else [])]
    node = helper.make_node("MatMulInteger", names, ["y"])
    model = model_of([node], feeds, weights, np.int32)
    compiled = torsh_fx.compile(model, target=target)
    assert "torsh.packed_linear_integer" in str(compiled.optimised)
    a, b = feeds["a"].astype(np.int64), weights["b"].astype(np.int64)
    a = a - weights["az"].astype(np.int64)[:, None] if "az" in weights else a
    b = b - weights["bz"].astype(np.int64) if "bz" in weights else b
    np.testing.assert_array_equal(compiled.run(feeds)[0], a @ b)


CONVS = {
    "few channels": ((1, 3, 13, 11), (8, 3, 3, 3), {"pads": [1, 1, 1, 1], "strides": [2, 1]}),
    "groups": ((1, 20, 9, 9), (6, 10, 3, 3), {"pads": [1, 0, 2, 1], "group": 2}),
    "1-d": ((1, 4, 30), (6, 4, 5), {"pads": [2, 2], "dilations": [2]}),
    "deep": ((2, 33, 6, 5), (17, 33, 1, 1), {}),
}


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("name", CONVS)
@pytest.mark.parametrize("kind", ["constant zeros", "zero at run time, u8 filters"])
def test_conv_integer(target, name, kind):
    dims, filters, attributes = CONVS[name]
    signed = kind == "constant zeros"
    x, w = whole(np.uint8, *dims), whole(np.int8 if signed else np.uint8, *filters)
    feeds, weights = {"x": x}, {"w": w, "wz": np.asarray(0 if signed else 128, w.dtype)}
    (weights if signed else feeds)["xz"] = np.asarray(77, np.uint8)
    node = helper.make_node("ConvInteger", ["x", "w", "xz", "wz"], ["y"], **attributes)
    model = model_of([node], feeds, weights, np.int32)
    kernel = "packed_linear_integer" if name == "deep" else "packed_conv_integer"
    run_exactly(model, feeds, kernel, target)


@pytest.mark.parametrize("target", TARGETS[-1:])
def test_conv_integer_with_a_zero_point_for_each_filter(target):
    import torch

    x, w, zero = whole(np.int8, 1, 5, 8, 7), whole(np.uint8, 6, 5, 3, 3), whole(np.uint8, 6)
    weights = {"w": w, "wz": zero, "xz": np.asarray(-5, np.int8)}
    node = helper.make_node("ConvInteger", ["x", "w", "xz", "wz"], ["y"], pads=[1, 1, 1, 1])
    compiled = torsh_fx.compile(model_of([node], {"x": x}, weights, np.int32), target=target)
    centred = w.astype(np.float64) - zero.reshape(-1, 1, 1, 1)
    expected = torch.nn.functional.conv2d(
        torch.from_numpy(x.astype(np.float64) + 5), torch.from_numpy(centred), padding=1
    )
    np.testing.assert_array_equal(compiled.run([x])[0], expected.numpy())


@pytest.mark.parametrize("target", TARGETS)
def test_depthwise_convolutions_are_exact_in_floats(target):
    x, w = whole(np.uint8, 1, 24, 9, 8), whole(np.int8, 24, 1, 3, 3)
    node = helper.make_node("ConvInteger", ["x", "w", "xz"], ["y"], pads=[1, 1, 1, 1], group=24)
    model = model_of([node], {"x": x}, {"w": w, "xz": np.asarray(200, np.uint8)}, np.int32)
    run_exactly(model, {"x": x}, "packed_conv", target)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("activation", [np.uint8, np.int8])
def test_qlinear_conv_and_matmul(target, activation):
    """Integer sums, one rounding of a float product, saturation: bit for bit."""
    x, w = whole(activation, 2, 6, 9, 9), whole(np.int8, 10, 6, 3, 3)
    weights = {
        "w": w, "ws": RNG.uniform(0.001, 0.003, 10).astype(np.float32), "wz": np.zeros(10, np.int8),
        "b": RNG.integers(-3000, 3000, 10).astype(np.int32), "xs": np.float32(0.02),
        "xz": np.asarray(11, activation), "ys": np.float32(0.31), "yz": np.asarray(20, activation),
        "m": whole(np.int8, 9, 12), "ms": np.float32(0.004), "mz": np.asarray(0, np.int8),
        "zs": np.float32(0.9), "zz": np.asarray(3, activation),
    }  # fmt: skip
    names = ["x", "xs", "xz", "w", "ws", "wz", "ys", "yz", "b"]
    nodes = [
        helper.make_node("QLinearConv", names, ["c"], pads=[1, 1, 1, 1]),
        helper.make_node("QLinearMatMul", ["c", "ys", "yz", "m", "ms", "mz", "zs", "zz"], ["y"]),
    ]
    model = model_of(nodes, {"x": x}, weights, activation)
    run_exactly(model, {"x": x}, "packed_conv_integer", target)
    run_exactly(model, {"x": x}, "packed_linear_integer", target)


@pytest.mark.parametrize("target", TARGETS)
def test_dynamic_quantisation(target):
    """Scale and zero point come from the data; the product is exact, floats round once each."""
    x, w = RNG.standard_normal((5, 64)).astype(np.float32), whole(np.uint8, 64, 32)
    weights = {"w": w, "wz": np.asarray(131, np.uint8), "ws": np.float32(0.01)}
    nodes = [
        helper.make_node("DynamicQuantizeLinear", ["x"], ["q", "s", "z"]),
        helper.make_node("MatMulInteger", ["q", "w", "z", "wz"], ["t"]),
        helper.make_node("Cast", ["t"], ["f"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["s", "ws"], ["factor"]),
        helper.make_node("Mul", ["f", "factor"], ["y"]),
    ]
    run_exactly(model_of(nodes, {"x": x}, weights, np.float32), {"x": x},
                "packed_linear_integer", target)  # fmt: skip


@pytest.mark.parametrize("pads", [[1, 1, 1, 1], [0, 0, 0, 0]])
def test_one_program_for_all_sizes(pads):
    """Batch, height and width are free; few channels take the path through padded memory."""
    w = whole(np.int8, 7, 3, 3, 3)
    node = helper.make_node("ConvInteger", ["x", "w", "xz"], ["y"], pads=pads, strides=[2, 1])
    weights = {"w": w, "xz": np.asarray(31, np.uint8)}
    model = model_of([node], {"x": np.zeros((1, 3, 9, 9), np.uint8)}, weights, np.int32)
    for place, name in ((0, "n"), (2, "h"), (3, "w")):
        model.graph.input[0].type.tensor_type.shape.dim[place].dim_param = name
    compiled = torsh_fx.compile(model, target=TARGETS[-1])
    for dims in ((1, 3, 3, 3), (2, 3, 17, 5), (3, 3, 4, 33)):
        x = whole(np.uint8, *dims)
        expected = ReferenceEvaluator(model).run(None, {"x": x})[0]
        np.testing.assert_array_equal(compiled.run([x])[0], expected)
