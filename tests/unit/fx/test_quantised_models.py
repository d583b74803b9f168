"""Quantised models of both frameworks: integer kernels, close to the float meaning."""

from __future__ import annotations

import numpy as np
import onnxruntime as ort
import pytest
import torch
from onnx import NodeProto, TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

import torsh_fx
from torsh_dialect.settings import Settings

RNG = np.random.default_rng(17)


def qdq_model():
    """Conv, relu, pool, residual sum, linear: all between quantise and dequantise."""
    weights = {
        "xs": np.float32(0.03), "xz": np.uint8(120),
        "w1": RNG.integers(-127, 128, (8, 3, 3, 3)).astype(np.int8),
        "w1s": RNG.uniform(0.002, 0.004, 8).astype(np.float32), "w1z": np.zeros(8, np.int8),
        "b1": RNG.integers(-2000, 2000, 8).astype(np.int32),
        "s1": np.float32(0.02), "z1": np.uint8(0),
        "w2": RNG.integers(-127, 128, (8, 8, 1, 1)).astype(np.int8),
        "w2s": RNG.uniform(0.002, 0.004, 8).astype(np.float32), "w2z": np.zeros(8, np.int8),
        "s2": np.float32(0.03), "z2": np.uint8(90),
        "w3": RNG.integers(-127, 128, (8, 5)).astype(np.int8), "w3s": np.float32(0.01),
        "w3z": np.int8(0), "s3": np.float32(0.05), "z3": np.uint8(128),
    }  # fmt: skip
    weights["b1s"] = weights["xs"] * weights["w1s"]
    weights["b1z"] = np.zeros(8, np.int32)
    n = helper.make_node
    nodes = [
        n("QuantizeLinear", ["x", "xs", "xz"], ["qx"]),
        n("DequantizeLinear", ["qx", "xs", "xz"], ["dx"]),
        n("DequantizeLinear", ["w1", "w1s", "w1z"], ["dw1"], axis=0),
        n("DequantizeLinear", ["b1", "b1s", "b1z"], ["db1"], axis=0),
        n("Conv", ["dx", "dw1", "db1"], ["c1"], pads=[1, 1, 1, 1]),
        n("Relu", ["c1"], ["r1"]),
        n("QuantizeLinear", ["r1", "s1", "z1"], ["q1"]),
        n("DequantizeLinear", ["q1", "s1", "z1"], ["d1"]),
        n("DequantizeLinear", ["w2", "w2s", "w2z"], ["dw2"], axis=0),
        n("Conv", ["d1", "dw2"], ["c2"]),
        n("Add", ["c2", "d1"], ["a2"]),
        n("QuantizeLinear", ["a2", "s2", "z2"], ["q2"]),
        n("DequantizeLinear", ["q2", "s2", "z2"], ["d2"]),
        n("GlobalAveragePool", ["d2"], ["g"]),
        n("Flatten", ["g"], ["f"]),
        n("QuantizeLinear", ["f", "s2", "z2"], ["qf"]),
        n("DequantizeLinear", ["qf", "s2", "z2"], ["df"]),
        n("DequantizeLinear", ["w3", "w3s", "w3z"], ["dw3"]),
        n("MatMul", ["df", "dw3"], ["m"]),
        n("QuantizeLinear", ["m", "s3", "z3"], ["qm"]),
        n("DequantizeLinear", ["qm", "s3", "z3"], ["y"]),
    ]
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes, "g", [value("x", TensorProto.FLOAT, ["batch", 3, 12, 10])],
        [value("y", TensorProto.FLOAT, None), value("q1", TensorProto.UINT8, None),
         value("q2", TensorProto.UINT8, None)],
        [numpy_helper.from_array(np.asarray(a), name) for name, a in weights.items()],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)])
    model.ir_version = 10
    return model


def test_qdq_onnx_is_contracted_in_integers():
    """Against the float meaning (onnx.reference): at most one step, at few places."""
    model = qdq_model()
    compiled = torsh_fx.compile(model)
    text = str(compiled.optimised)
    assert text.count("torsh.packed_conv_integer ") == 1
    assert text.count("torsh.packed_linear_integer ") == 2  # one of them a 1x1 convolution
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    for batch in (1, 3):
        x = RNG.standard_normal((batch, 3, 12, 10)).astype(np.float32)
        y, q1, q2 = compiled.run([x])
        for expected in (
            ReferenceEvaluator(model).run(None, {"x": x}),
            session.run(None, {"x": x}),
        ):
            for actual, wanted in ((q1, expected[1]), (q2, expected[2])):
                steps = np.abs(actual.astype(int) - wanted.astype(int))
                assert steps.max() <= 1
                assert (steps > 0).mean() < 0.002
            assert np.abs(y - expected[0]).max() <= 0.0501


def with_ends(name: str, source: str, scale: str, zero: str) -> list[NodeProto]:
    """Quantise `source` and dequantise it as `name`."""
    return [
        helper.make_node("QuantizeLinear", [source, scale, zero], [f"{name}_q"]),
        helper.make_node("DequantizeLinear", [f"{name}_q", scale, zero], [name]),
    ]


def attention_model():
    """Softmax of products of heads in QDQ form, all factors activations: x [n, 19, 4 * 16]."""
    n = helper.make_node
    weights = {
        "s": np.float32(0.02), "z": np.uint8(121), "ps": np.float32(1 / 255), "pz": np.uint8(0),
        "cs": np.float32(0.03), "cz": np.uint8(110), "heads": np.asarray([0, 0, 4, 16]),
    }  # fmt: skip
    nodes = [
        *with_ends("d", "x", "s", "z"),
        n("Reshape", ["d", "heads"], ["h"]),
        *with_ends("hd", "h", "s", "z"),
        n("Transpose", ["hd"], ["rows"], perm=[0, 2, 1, 3]),
        *with_ends("q", "rows", "s", "z"),
        n("Transpose", ["hd"], ["columns"], perm=[0, 2, 3, 1]),
        *with_ends("k", "columns", "s", "z"),
        n("MatMul", ["q", "k"], ["scores"]),
        *with_ends("sd", "scores", "cs", "cz"),
        n("Softmax", ["sd"], ["p"], axis=-1),
        *with_ends("pd", "p", "ps", "pz"),
        n("MatMul", ["pd", "q"], ["c"]),
        *with_ends("y", "c", "s", "z"),
    ]
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes, "g", [value("x", TensorProto.FLOAT, ["n", 19, 64])],
        [value(f"{name}_q", TensorProto.UINT8, None) for name in ("q", "k", "sd", "pd", "y")],
        [numpy_helper.from_array(np.asarray(a), name) for name, a in weights.items()],
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)


def steps_apart(actual, expected, share: float) -> None:
    """At most one step, at few places."""
    steps = np.abs(actual.astype(int) - expected.astype(int))
    assert steps.max() <= 1
    assert (steps > 0).mean() < share


def test_products_of_activations_in_qdq_attention_are_integers():
    """Each product against whole numbers, the scores against the float meaning too."""
    model = attention_model()
    compiled = torsh_fx.compile(model)
    assert str(compiled.optimised).count("accumulate = i32") == 2
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    for batch in (1, 3):
        x = RNG.uniform(-2.3, 2.5, (batch, 19, 64)).astype(np.float32)
        assert compiled.profile(x).table().count("int8_batched") == 2
        found = compiled.run([x])
        q, k, scores, p, y = (array.astype(np.int64) for array in found)
        for actual, total, scale, zero in (
            (scores, (q - 121) @ (k - 121), 0.02 * 0.02 / 0.03, 110),
            (y, p @ (q - 121), 1 / 255, 121),
        ):
            steps_apart(actual, np.clip(np.rint(total * scale) + zero, 0, 255), 0.001)
        for expected in (
            ReferenceEvaluator(model).run(None, {"x": x}), session.run(None, {"x": x}),
        ):  # fmt: skip
            for number in range(3):
                steps_apart(found[number], expected[number], 0.01)


@pytest.mark.parametrize("zero", [np.uint8(113), np.int8(-7)])
def test_products_of_activations_by_qlinear_matmul_are_exact(zero):
    """A step is 245 units of the sum, so that no result lies between two of them."""
    n, dtype = helper.make_node, zero.dtype
    kind = helper.np_dtype_to_tensor_dtype(dtype)
    names = ["a", "s", "z", "b", "s", "z", "t", "z"]
    weights = {"s": np.float32(0.5), "z": zero, "t": np.float32(61.25)}
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        [n("QLinearMatMul", names, ["y"])], "g",
        [value("a", kind, [2, 3, 21, 35]), value("b", kind, [2, 3, 35, 50])],
        [value("y", kind, None)],
        [numpy_helper.from_array(np.asarray(a), name) for name, a in weights.items()],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    low, high = np.iinfo(dtype).min, np.iinfo(dtype).max + 1
    feeds = {
        name: RNG.integers(low, high, shape).astype(dtype)
        for name, shape in (("a", (2, 3, 21, 35)), ("b", (2, 3, 35, 50)))
    }
    compiled = torsh_fx.compile(model)
    assert "int8_batched" in compiled.profile(**feeds).table()
    (actual,) = compiled.run(feeds)
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    np.testing.assert_array_equal(actual, session.run(None, feeds)[0])
    np.testing.assert_array_equal(actual, ReferenceEvaluator(model).run(None, feeds)[0])


def test_a_maximum_between_quantised_convolutions_pools_bytes():
    n = helper.make_node
    weights = {
        "s": np.float32(0.02), "z": np.uint8(121), "w": RNG.integers(-9, 9, (16, 3, 3, 3)),
        "ws": np.float32(0.01), "wz": np.int8(0),
    }  # fmt: skip
    weights["w"] = weights["w"].astype(np.int8)
    nodes = [
        *with_ends("d", "x", "s", "z"),
        n("DequantizeLinear", ["w", "ws", "wz"], ["dw"]),
        n("Conv", ["d", "dw"], ["c"]),
        *with_ends("cd", "c", "s", "z"),
        n("MaxPool", ["cd"], ["p"], kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1]),
        *with_ends("y", "p", "s", "z"),
    ]
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes, "g", [value("x", TensorProto.FLOAT, [1, 3, 15, 14])],
        [value("cd_q", TensorProto.UINT8, None), value("y_q", TensorProto.UINT8, None)],
        [numpy_helper.from_array(np.asarray(a), name) for name, a in weights.items()],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    x = RNG.uniform(-2.3, 2.5, (1, 3, 15, 14)).astype(np.float32)
    compiled = torsh_fx.compile(model)
    kernels = compiled.profile(x).table().split()
    assert any(word.startswith("pool_") for word in kernels)
    before, pooled = compiled.run([x])
    largest = torch.nn.functional.max_pool2d(torch.from_numpy(before.astype(np.float32)), 3, 2, 1)
    np.testing.assert_array_equal(pooled, largest.numpy())
    for ours, theirs in zip(
        (before, pooled), ReferenceEvaluator(model).run(None, {"x": x}), strict=True
    ):
        steps_apart(ours, theirs, 0.01)


def test_strict_numerics_keep_the_floats():
    model = qdq_model()
    compiled = torsh_fx.compile(model, settings=Settings(numerics="strict"))
    assert "_integer" not in str(compiled.optimised)
    x = RNG.standard_normal((2, 3, 12, 10)).astype(np.float32)
    expected = ReferenceEvaluator(model).run(None, {"x": x})
    np.testing.assert_array_equal(compiled.run([x])[1], expected[1])


class Network(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = torch.nn.Conv2d(3, 8, 3, padding=1)
        self.down = torch.nn.Conv2d(8, 16, 3, stride=2, padding=1)
        self.head = torch.nn.Linear(16, 5)

    def forward(self, x):
        x = torch.relu(self.conv(x))
        x = torch.relu(self.down(torch.nn.functional.max_pool2d(x, 2)))
        return self.head(x.mean((2, 3)))


def pt2e(dynamic):
    """A model quantised by PT2E for x86, as an ExportedProgram, and an input."""
    from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e
    from torchao.quantization.pt2e.quantizer import x86_inductor_quantizer as x86

    torch.manual_seed(3)
    x = torch.randn(4, 3, 16, 16)
    module = torch.export.export(Network().eval(), (x,)).module()
    quantizer = x86.X86InductorQuantizer()
    quantizer.set_global(x86.get_default_x86_inductor_quantization_config(is_dynamic=dynamic))
    prepared = prepare_pt2e(module, quantizer)
    prepared(x)
    return torch.export.export(convert_pt2e(prepared), (x,)), x


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("dynamic", [False, True])
def test_pt2e(dynamic):
    program, x = pt2e(dynamic)
    expected = program.module()(x).detach().numpy()
    compiled = torsh_fx.compile(program)
    text = str(compiled.optimised)
    assert text.count("torsh.packed_conv_integer ") == 2
    assert text.count("torsh.packed_linear_integer ") == 1
    (actual,) = compiled.run([x.numpy()])
    # the mean is quantised in 255 steps: one step of it moves an output by a 1/255 of a weight
    assert np.abs(actual - expected).max() < 0.004 * np.abs(expected).max()
    strict = torsh_fx.compile(program, settings=Settings(numerics="strict"))
    assert "_integer" not in str(strict.optimised)
    assert np.abs(strict.run([x.numpy()])[0] - expected).max() < 0.004 * np.abs(expected).max()


D = torch.ops.quantized_decomposed


def quantised_operators():
    import torch.ao.quantization.fx._decomposed

    scales, zeros = torch.tensor([0.02, 0.05, 0.01]), torch.tensor([3, -4, 0])
    x = torch.randn(3, 8) * 2
    per_token = D.choose_qparams_per_token_asymmetric(x, torch.int8)
    groups = torch.rand(3, 2) * 0.03 + 0.001
    return {
        "tensor": lambda v: D.quantize_per_tensor(v, 0.013, 7, 0, 255, torch.uint8),
        "narrow": lambda v: D.quantize_per_tensor(v, 0.013, 0, -127, 127, torch.int8),
        "channel": lambda v: D.quantize_per_channel(v, scales, zeros, 0, -128, 127, torch.int8),
        "token": lambda v: D.quantize_per_token(v, *per_token, -128, 127, torch.int8),
        "group": lambda v: D.quantize_per_channel_group(
            v, groups, torch.zeros(3, 2), -8, 7, torch.int8, 4),
        "back": lambda v: D.dequantize_per_channel(
            D.quantize_per_channel(v, scales, zeros, 0, -128, 127, torch.int8),
            scales, zeros, 0, -128, 127, torch.int8),
        "back by token": lambda v: D.dequantize_per_token(
            D.quantize_per_token(v, *per_token, -128, 127, torch.int8), *per_token, -128, 127,
            torch.int8, torch.float32),
        "back by group": lambda v: D.dequantize_per_channel_group(
            D.quantize_per_channel_group(v, groups, torch.zeros(3, 2), -8, 7, torch.int8, 4),
            groups, torch.zeros(3, 2, dtype=torch.int8), -8, 7, torch.int8, 4, torch.float32),
        "choose": lambda v: D.choose_qparams.tensor(v, 0, 255, 1e-4, torch.uint8),
        "choose symmetric": lambda v: D.choose_qparams_symmetric.tensor(
            v, -127, 127, 1e-4, torch.int8),
        "choose token": lambda v: D.choose_qparams_per_token(v, torch.int8),
        "choose token asymmetric": lambda v: D.choose_qparams_per_token_asymmetric(
            v, torch.int8),
    }  # fmt: skip


@pytest.mark.parametrize("name", quantised_operators())
def test_quantised_decomposed_operators_are_exact(name):
    class Wrapped(torch.nn.Module):
        def forward(self, x):
            return quantised[name](x)

    quantised, x = quantised_operators(), torch.randn(3, 8) * 3
    expected = Wrapped()(x)
    expected = expected if isinstance(expected, tuple) else (expected,)
    program = torch.export.export(Wrapped(), (x,))
    for actual, wanted in zip(torsh_fx.compile(program).run([x.numpy()]), expected, strict=True):
        np.testing.assert_array_equal(actual, wanted.numpy())  # of the dtype that torch declares
