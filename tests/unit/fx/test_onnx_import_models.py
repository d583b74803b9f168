"""ONNX models through the importer, evaluated by the reference, against onnxruntime."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

import torsh_fx
from torsh_dialect.context import Context
from torsh_dialect.evaluate import evaluate
from torsh_dialect.ops.constant import ConstantOp, WeightOp
from torsh_dialect.ops.control import CondOp, LoopOp
from torsh_fx.importers.model import Fate, ImportedModel
from torsh_fx.importers.onnx import import_onnx

F, INT, B = TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL
RNG = np.random.default_rng(3)


def value(name: str, kind: int, *dims: Any) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, list(dims))


def free(name: str, kind: int, rank: int) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, [None] * rank)


def model_of(
    nodes: Sequence[onnx.NodeProto],
    inputs: Sequence[onnx.ValueInfoProto],
    outputs: Sequence[onnx.ValueInfoProto],
    stored: dict[str, np.ndarray] | None = None,
    opset: int = 18,
    **more: Any,
) -> onnx.ModelProto:
    tensors = [numpy_helper.from_array(a, n) for n, a in (stored or {}).items()]
    graph = helper.make_graph(list(nodes), "g", list(inputs), list(outputs), tensors)
    imports = [helper.make_opsetid("", opset), *more.pop("imports", [])]
    return helper.make_model(graph, opset_imports=imports, ir_version=8, **more)


def imported(model: Any) -> ImportedModel:
    result = import_onnx(model, Context())
    result.module.verify()
    return result


def check(model: onnx.ModelProto, *calls: Sequence[np.ndarray], tolerance: float = 2e-6) -> None:
    ours = imported(model)
    options = ort.SessionOptions()
    options.log_severity_level = 3
    session = ort.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    assert ours.inputs == tuple(i.name for i in session.get_inputs())
    assert ours.outputs == tuple(o.name for o in session.get_outputs())
    for args in calls:
        expected = session.run(None, dict(zip(ours.inputs, args, strict=True)))
        actual = evaluate(ours.module, args, ours.weights)
        for a, e in zip(actual, expected, strict=True):
            assert a.dtype == e.dtype
            assert a.shape == e.shape
            scale = max(1.0, float(np.abs(e).max(initial=0))) if e.dtype.kind == "f" else 0
            np.testing.assert_allclose(a, e, rtol=0, atol=tolerance * scale)


def real(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape).astype(np.float32)


def node(op: str, inputs: str, outputs: str, **attributes: Any) -> onnx.NodeProto:
    return helper.make_node(op, inputs.split(), outputs.split(), **attributes)


def test_convolution_network_at_several_sizes():
    model = model_of(
        [
            node("Conv", "x w b", "c", pads=[1, 1, 1, 1], strides=[2, 2]),
            node("BatchNormalization", "c s t m v", "n"),
            node("Relu", "n", "r"),
            node("MaxPool", "r", "p", kernel_shape=[2, 2], ceil_mode=1, strides=[2, 2]),
            node("GlobalAveragePool", "p", "g"),
            node("Flatten", "g", "f"),
            node("Gemm", "f k", "y", transB=1),
        ],
        [value("x", F, "batch", 3, "h", "w0")],
        [value("y", F, "batch", 5)],
        {
            "w": real(4, 3, 3, 3), "b": real(4), "s": real(4), "t": real(4), "m": real(4),
            "v": np.abs(real(4)) + 0.1, "k": real(5, 4),
        },
    )  # fmt: skip
    check(model, [real(1, 3, 9, 12)], [real(3, 3, 16, 7)])


def test_shape_arithmetic_becomes_extents():
    nodes = [
        node("Shape", "x", "s"),
        node("Gather", "s zero", "n"),
        node("Unsqueeze", "n axis0", "n1"),
        node("Concat", "n1 minus", "t", axis=0),
        node("Reshape", "x t", "y"),
    ]
    stored = {
        "zero": np.array(0), "axis0": np.array([0]), "minus": np.array([-1]),
    }  # fmt: skip
    model = model_of(nodes, [value("x", F, "n", 4, 3)], [free("y", F, 2)], stored)
    check(model, [real(2, 4, 3)], [real(5, 4, 3)])
    text = str(imported(model).module)
    assert "torsh.bind" not in text
    assert "torsh.reshape %x {target = #torsh.dims<[n, 12]>}" in text


def test_reshape_by_data_binds_symbols():
    model = model_of(
        [node("Reshape", "x t", "y")],
        [value("x", F, 4, 3, 2), value("t", INT, 3)],
        [free("y", F, 3)],
    )
    check(model, [real(4, 3, 2), np.array([0, -1, 3])], [real(4, 3, 2), np.array([2, 2, 6])])


@pytest.mark.parametrize("mode", ["nearest", "linear", "cubic"])
@pytest.mark.parametrize("coordinates", ["half_pixel", "align_corners", "asymmetric"])
def test_resize_at_several_sizes(mode: str, coordinates: str):
    model = model_of(
        [
            helper.make_node(
                "Resize", ["x", "", "scales"], ["y"], mode=mode,
                coordinate_transformation_mode=coordinates,
            )
        ],
        [value("x", F, 1, 2, "h", "w")],
        [free("y", F, 4)],
        {"scales": np.array([1, 1, 2, 1.5], np.float32)},
    )  # fmt: skip
    check(model, [real(1, 2, 4, 6)], [real(1, 2, 3, 8)], tolerance=1e-5)


@pytest.mark.parametrize("opset", [7, 10, 11, 13, 18])
def test_versions_of_operators(opset: int):
    """Clip, Slice, Squeeze and Softmax changed their form with the operator set."""
    stored: dict[str, np.ndarray] = {}
    if opset < 10:
        cut = node("Slice", "x", "s", starts=[0, 1], ends=[9, -1], axes=[1, 2])
    else:
        stored |= {"a": np.array([0, 1]), "e": np.array([9, -1]), "i": np.array([1, 2])}
        cut = node("Slice", "x a e i", "s")
    if opset < 11:
        clip = node("Clip", "s", "c", min=-0.5, max=0.5)
    else:
        stored |= {"lo": np.float32(-0.5).reshape(()), "hi": np.float32(0.5).reshape(())}
        clip = node("Clip", "s lo hi", "c")
    if opset < 13:
        squeeze = node("Unsqueeze", "m", "y", axes=[0])
    else:
        stored |= {"k": np.array([0])}
        squeeze = node("Unsqueeze", "m k", "y")
    nodes = [cut, clip, node("Softmax", "c", "m", axis=1), squeeze]
    model = model_of(nodes, [value("x", F, "n", 4, 5)], [free("y", F, 4)], stored, opset)
    check(model, [real(2, 4, 5)], [real(1, 4, 5)])


def test_lstm_and_gru_in_both_directions():
    nodes = [
        node("LSTM", "x w r b", "a h c", hidden_size=4, direction="bidirectional"),
        node("GRU", "x gw gr gb", "g", hidden_size=4, linear_before_reset=1),
    ]
    stored = {
        "w": real(2, 16, 3), "r": real(2, 16, 4), "b": real(2, 32),
        "gw": real(1, 12, 3), "gr": real(1, 12, 4), "gb": real(1, 24),
    }  # fmt: skip
    outputs = [free("a", F, 4), free("h", F, 3), free("c", F, 3), free("g", F, 4)]
    model = model_of(nodes, [value("x", F, "t", "n", 3)], outputs, stored, 14)
    check(model, [real(5, 2, 3)], [real(1, 3, 3)])


def branch(name: str, *nodes: onnx.NodeProto, output: str, rank: int = 1) -> onnx.GraphProto:
    return helper.make_graph(list(nodes), name, [], [free(output, F, rank)])


def test_if_with_branches_of_different_extents():
    then = branch("t", node("Concat", "x x", "a", axis=0), output="a")
    other = branch("e", node("Neg", "x", "b"), output="b")
    model = model_of(
        [helper.make_node("If", ["c"], ["y"], then_branch=then, else_branch=other)],
        [value("c", B), value("x", F, "n")],
        [free("y", F, 1)],
    )
    check(model, [np.array(True), real(3)], [np.array(False), real(2)])
    assert any(isinstance(op, CondOp) for op in imported(model).module.walk())


def test_if_on_a_constant_keeps_one_branch():
    then = branch("t", node("Abs", "x", "a"), output="a")
    other = branch("e", node("Neg", "x", "b"), output="b")
    model = model_of(
        [helper.make_node("If", ["c"], ["y"], then_branch=then, else_branch=other)],
        [value("x", F, "n")],
        [free("y", F, 1)],
        {"c": np.array(False)},
    )
    check(model, [real(3)])
    assert not any(isinstance(op, CondOp) for op in imported(model).module.walk())


def loop_model(body: onnx.GraphProto, outputs: int, stored: dict[str, np.ndarray]) -> Any:
    names = [f"y{i}" for i in range(outputs)]
    return model_of(
        [helper.make_node("Loop", ["n", "c", "x"], names, body=body)],
        [value("n", INT), value("c", B), value("x", F, "k")],
        [free("y0", F, 1), *[free(name, F, 2) for name in names[1:]]],
        stored,
        16,
    )


def test_loop_with_a_data_dependent_trip_count():
    body = helper.make_graph(
        [
            node("Add", "a step", "b"),
            node("ReduceSum", "b", "total", keepdims=0),
            node("Less", "total most", "go"),
            node("Identity", "b", "scan"),
        ],
        "body",
        [value("i", INT), value("cond", B), value("a", F, "k")],
        [value("go", B), value("b", F, "k"), value("scan", F, "k")],
    )
    stored = {"step": np.float32(1).reshape(()), "most": np.float32(20).reshape(())}
    model = loop_model(body, 2, stored)
    check(model, *[[np.array(n), np.array(True), real(3)] for n in (100, 2)])
    ours, x = imported(model), real(3)
    for n, c in ((0, True), (5, False)):  # onnxruntime forgets the extents of empty stacks
        last, stack = evaluate(ours.module, [np.array(n), np.array(c), x], ours.weights)
        np.testing.assert_array_equal(last, x)
        assert stack.shape == (0, 3)
    assert any(isinstance(op, LoopOp) for op in imported(model).module.walk())


def test_loop_that_grows_a_carried_value():
    body = helper.make_graph(
        [node("Concat", "a outer", "b", axis=0), node("Identity", "cond", "go")],
        "body",
        [value("i", INT), value("cond", B), free("a", F, 1)],
        [value("go", B), free("b", F, 1)],
    )
    model = loop_model(body, 1, {"outer": real(2)})
    check(model, *[[np.array(n), np.array(True), real(3)] for n in (0, 1, 4)])


def test_scan_over_rows():
    body = helper.make_graph(
        [node("Add", "s r", "s2"), node("Mul", "s2 r", "o")],
        "body",
        [value("s", F, 3), value("r", F, 3)],
        [value("s2", F, 3), value("o", F, 3)],
    )
    scan = helper.make_node(
        "Scan", ["s0", "x"], ["last", "y"], body=body, num_scan_inputs=1,
        scan_input_directions=[1], scan_output_axes=[1],
    )  # fmt: skip
    model = model_of(
        [scan],
        [value("s0", F, 3), value("x", F, "t", 3)],
        [value("last", F, 3), free("y", F, 2)],
    )
    check(model, [real(3), real(5, 3)], [real(3), real(1, 3)])


def test_local_functions_are_inlined_with_their_attributes():
    function = helper.make_function(
        "ours", "Scaled", ["a"], ["z"],
        [
            helper.make_node("Constant", [], ["k"], value_float=2.0),
            helper.make_node("Mul", ["a", "k"], ["b"]),
            helper.make_node("LeakyRelu", ["b"], ["z"]),
        ],
        [helper.make_opsetid("", 18)],
        ["alpha"],
    )  # fmt: skip
    function.node[2].attribute.append(
        onnx.AttributeProto(name="alpha", type=onnx.AttributeProto.FLOAT, ref_attr_name="alpha")
    )
    call = helper.make_node("Scaled", ["x"], ["y"], domain="ours", alpha=0.25)
    model = model_of(
        [call], [value("x", F, "n")], [value("y", F, "n")], functions=[function],
        imports=[helper.make_opsetid("ours", 1)],
    )  # fmt: skip
    check(model, [real(6)])


def test_quantised_network():
    nodes = [
        node("QuantizeLinear", "x s z", "q"),
        node("QLinearConv", "q s z w ws wz ys yz b", "c", pads=[1, 1, 1, 1]),
        node("DequantizeLinear", "c ys yz", "y"),
    ]
    stored: dict[str, Any] = {
        "s": np.float32(0.02), "z": np.uint8(128), "ys": np.float32(0.1), "yz": np.uint8(100),
        "w": RNG.integers(-90, 90, (4, 2, 3, 3)).astype(np.int8),
        "ws": np.array([0.01, 0.02, 0.03, 0.01], np.float32), "wz": np.zeros(4, np.int8),
        "b": np.array([10, -5, 0, 7], np.int32),
    }  # fmt: skip
    stored = {name: np.asarray(array) for name, array in stored.items()}
    model = model_of(nodes, [value("x", F, 1, 2, "h", 6)], [free("y", F, 4)], stored)
    check(model, [real(1, 2, 5, 6)], [real(1, 2, 9, 6)])


def test_data_dependent_extents():
    nodes = [
        node("Greater", "x zero", "p"),
        node("NonZero", "p", "places"),
        node("Transpose", "places", "rows", perm=[1, 0]),
        node("GatherND", "x rows", "picked"),
        node("TopK", "picked k", "best at"),
    ]
    stored = {"zero": np.float32(-9).reshape(()), "k": np.array([2])}
    outputs = [free("picked", F, 1), free("best", F, 1), free("at", INT, 1)]
    model = model_of(nodes, [value("x", F, "n", 3)], outputs, stored)
    check(model, [real(4, 3)], [real(2, 3)])


def test_every_node_is_accounted_for():
    nodes = [
        node("Constant", "", "two", value_float=2.0),
        node("Mul", "x two", "y"),
        node("Identity", "y", "z"),
        node("Neg", "x", "unused"),
    ]
    nodes[0].input[:] = []
    report = imported(model_of(nodes, [value("x", F, 3)], [value("z", F, 3)])).report
    assert sum(report.counts().values()) == len(nodes)
    assert report.fates["Neg_3"] is Fate.DEAD
    assert report.fates["Identity_2"] is Fate.FOLDED
    assert report.fates["Mul_1"] is Fate.MAPPED


def test_weights_are_handles_and_shapes_are_constants():
    nodes = [node("MatMul", "x w", "m"), node("Reshape", "m t", "y")]
    stored = {"w": real(4, 6), "t": np.array([-1, 3])}
    result = imported(model_of(nodes, [value("x", F, 2, 4)], [free("y", F, 2)], stored))
    ops = list(result.module.walk())
    assert [op.id.data for op in ops if isinstance(op, WeightOp)] == ["w"]
    assert not any(isinstance(op, ConstantOp) for op in ops)
    assert result.weights["w"] is not None


def test_names_and_locations_survive():
    named = helper.make_node("Relu", ["x"], ["h.1"], name="block/act")
    result = imported(model_of([named], [value("x", F, 3)], [value("h.1", F, 3)]))
    (op,) = [op for op in result.module.walk() if op.name == "torsh.relu"]
    assert op.results[0].name_hint == "h.1"
    assert "block/act (Relu)" in str(op.location)


def test_symbolic_extents_take_bounds_or_numbers():
    model = model_of([node("Relu", "x", "y")], [value("x", F, "n", "m")], [free("y", F, 2)])
    result = import_onnx(model, Context(), {"n": (1, 8), "m": 5})
    assert result.symbols["n"] == (1, 8)
    assert "tensor<?x5xf32, #torsh.dims<[n, 5]>>" in str(result.module)


def test_parameters_that_are_no_identifiers():
    inputs = [value("x", F, "batch-size", "?", "?"), value("z", F, "min", 3)]
    nodes = [node("Relu", "x", "y"), node("Relu", "z", "u")]
    model = model_of(nodes, inputs, [free("y", F, 3), free("u", F, 2)])
    check(model, [real(2, 3, 4), real(1, 3)])


def test_external_data_beside_the_model(tmp_path: Path):
    model = model_of(
        [node("MatMul", "x w", "y")],
        [value("x", F, 2, 64)],
        [value("y", F, 2, 48)],
        {"w": real(64, 48)},
    )
    path = tmp_path / "m.onnx"
    w = numpy_helper.to_array(model.graph.initializer[0])
    onnx.save(model, path, save_as_external_data=True, location="m.data", size_threshold=0)
    ours, x = imported(path), real(2, 64)
    expected = x.astype(np.float64) @ w
    (actual,) = evaluate(ours.module, [x], ours.weights)
    np.testing.assert_allclose(actual, expected, atol=1e-4)


@pytest.mark.parametrize("kind", ["INT4", "UINT4", "FLOAT4E2M1"])
def test_packed_elements_in_external_data(tmp_path: Path, kind: str):
    """An odd number of them, behind other bytes; a file that changes is read again."""
    values = np.array([[3, -1, 7], [0, 2, -6], [1, 4, 5]], np.float32)
    values = np.abs(values) if kind == "UINT4" else values
    data_type = getattr(onnx.TensorProto, kind)
    stored = helper.make_tensor("w", data_type, values.shape, values.reshape(-1))
    whole = numpy_helper.to_array(stored)
    raw, lead = stored.raw_data or numpy_helper.from_array(whole, "w").raw_data, b"\x77" * 3
    assert len(raw) == 5
    stored = onnx.TensorProto(name="w", data_type=data_type, dims=values.shape)
    stored.data_location = onnx.TensorProto.EXTERNAL
    for key, value in (("location", "w.bin"), ("offset", "3"), ("length", "5")):
        stored.external_data.add(key=key, value=value)
    nodes = [
        helper.make_node("Cast", ["w"], ["f"], to=1),
        helper.make_node("Add", ["x", "f"], ["y"]),
    ]
    x, y = (helper.make_tensor_value_info(name, 1, [3, 3]) for name in "xy")
    graph = helper.make_graph(nodes, "g", [x], [y], [stored])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 23)], ir_version=11)
    onnx.save(model, tmp_path / "m.onnx")
    feed = np.ones((3, 3), np.float32)
    for content, wanted in ((raw, whole.astype(np.float32)), (bytes(5), np.zeros((3, 3)))):
        (tmp_path / "w.bin").write_bytes(lead + content + b"\x55")
        compiled = torsh_fx.compile(tmp_path / "m.onnx")
        np.testing.assert_array_equal(compiled.run([feed])[0], feed + wanted)
