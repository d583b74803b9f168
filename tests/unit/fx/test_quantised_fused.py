"""DynamicQuantizeLSTM and QAttention against onnxruntime, which defines them."""

from __future__ import annotations

import numpy as np
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

import torsh_fx

RNG = np.random.default_rng(31)
TIME, BATCH, DEPTH, HIDDEN = 5, 3, 10, 8


def compare(node, x, weights, outputs, atol):
    """Run the node in both, onnxruntime on one thread (it quantises parts of a batch apart)."""
    value, kinds = helper.make_tensor_value_info, {"f": TensorProto.FLOAT, "u": TensorProto.UINT8}
    graph = helper.make_graph(
        [node], "g", [value("x", kinds[x.dtype.kind], x.shape)],
        [value(name, TensorProto.FLOAT, None) for name in outputs],
        [numpy_helper.from_array(np.asarray(a), name) for name, a in weights.items()],
    )  # fmt: skip
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    model = helper.make_model(graph, opset_imports=opsets)
    model.ir_version = 8
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    compiled = torsh_fx.compile(model)
    assert "torsh.packed_linear_integer" in str(compiled.optimised)
    for actual, expected in zip(compiled.run([x]), session.run(None, {"x": x}), strict=True):
        np.testing.assert_allclose(actual, expected, rtol=0, atol=atol)


@pytest.mark.parametrize("direction", ["forward", "bidirectional"])
@pytest.mark.parametrize("more", ["plain", "columns", "lengths", "states"])
def test_dynamic_quantize_lstm(direction, more):
    count = 2 if direction == "bidirectional" else 1
    one = (count, 4 * HIDDEN) if more == "columns" else (count,)
    weights = {
        "w": RNG.integers(-127, 128, (count, DEPTH, 4 * HIDDEN)).astype(np.int8),
        "r": RNG.integers(-127, 128, (count, HIDDEN, 4 * HIDDEN)).astype(np.int8),
        "b": (RNG.standard_normal((count, 8 * HIDDEN)) / 10).astype(np.float32),
        "ws": RNG.uniform(0.002, 0.006, one).astype(np.float32), "wz": np.zeros(one, np.int8),
        "rs": RNG.uniform(0.002, 0.006, one).astype(np.float32), "rz": np.zeros(one, np.int8),
    }  # fmt: skip
    names = ["x", "w", "r", "b", "", "", "", "", "ws", "wz", "rs", "rz"]
    if more == "lengths":
        weights["lengths"] = np.array([5, 3, 2], np.int32)
        names[4] = "lengths"
    if more == "states":
        weights["h0"] = RNG.uniform(-1, 1, (count, BATCH, HIDDEN)).astype(np.float32)
        weights["c0"] = RNG.uniform(-1, 1, (count, BATCH, HIDDEN)).astype(np.float32)
        names[5:7] = ["h0", "c0"]
    node = helper.make_node(
        "DynamicQuantizeLSTM", names, ["y", "h", "c"], domain="com.microsoft",
        hidden_size=HIDDEN, direction=direction,
    )  # fmt: skip
    x = RNG.standard_normal((TIME, BATCH, DEPTH)).astype(np.float32)
    compare(node, x, weights, ["y", "h", "c"], 2e-6)


@pytest.mark.parametrize("causal", [0, 1])
@pytest.mark.parametrize("scales", ["one", "columns"])
def test_qattention(causal, scales):
    width = 16
    weights = {
        "w": RNG.integers(-127, 128, (width, 3 * width)).astype(np.int8),
        "b": RNG.standard_normal(3 * width).astype(np.float32), "xs": np.float32(0.02),
        "ws": np.float32(0.01), "m": np.array([[1] * 6, [1, 1, 1, 1, 0, 0]], np.int32),
        "xz": np.uint8(128), "wz": np.int8(0),
    }  # fmt: skip
    if scales == "columns":
        weights["ws"] = RNG.uniform(0.005, 0.01, 3 * width).astype(np.float32)
        weights["wz"] = np.zeros(3 * width, np.int8)
    node = helper.make_node(
        "QAttention", ["x", "w", "b", "xs", "ws", "m", "xz", "wz"], ["y"],
        domain="com.microsoft", num_heads=4, unidirectional=causal,
    )  # fmt: skip
    x = RNG.integers(0, 256, (2, 6, width)).astype(np.uint8)
    compare(node, x, weights, ["y"], 2e-5)
